"""manifest.json: the content of an export, and the outcome of every comparison with the model."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from recsys.config.base import BaseConfig
from recsys.errors import RecsysError
from recsys.io.atomic import atomic_write
from recsys.io.checksums import CHECKSUM_FILE, verify_checksums
from recsys.io.paths import file_inside, read_bytes
from recsys.schema import SCHEMA_FILE
from recsys.serving.features import ExportedEmbedding, ExportedFeature, ExportedPair
from recsys.serving.graph_spec import ModelSpec
from recsys.serving.table_forms import FORMS

MANIFEST_FILE = "manifest.json"
ROWS_FILE, LOGITS_FILE = "reference/rows.parquet", "reference/logits.parquet"
FORMAT: Literal[4] = 4


class DatasetSpec(BaseConfig):
    """The data that the model was trained on."""

    name: str
    fingerprint: str


class RunSpec(BaseConfig):
    """The run that was exported; `folder` is relative to the export."""

    folder: str
    config_sha256: str


class Parity(BaseConfig):
    """The certificate of one comparison: what was compared, its largest error, the outcome."""

    # What was exported: the ONNX graph, the .pt2 graph, or everything as the reader reads it.
    candidate: Literal["dense", "whole", "reader"]
    # The table form that was read; an embedding that lacks it was read in its first one.
    form: str | None = None
    # The trained run, its logits `stored` with the reference rows, or another form of the tables.
    # None: the rows were scored, and there was nothing to compare with.
    reference: Literal["run", "stored", "form"] | None = None
    data: str
    rows: NonNegativeInt
    # Cores of the machine: onnxruntime uses a thread on each by default.
    cores: PositiveInt | None = None
    # The largest difference of a probability, and the largest that the form allows.
    max_abs_difference: NonNegativeFloat | None = None
    tolerance: NonNegativeFloat
    # The same for a vector's entry, if the reference has vectors.
    max_vector_difference: NonNegativeFloat | None = None
    vector_tolerance: NonNegativeFloat
    # Rows that differ because rounding decides which behavior a search finds last; not counted.
    search_ties: NonNegativeInt = 0
    # None if the rows have no labels, or labels of one class.
    candidate_auc: float | None = None
    reference_auc: float | None = None
    passed: bool
    at: str


class Manifest(BaseConfig):
    """Everything that is needed to score a row from the other files."""

    format: Literal[4] = FORMAT
    created: str
    model: ModelSpec
    features: tuple[ExportedFeature, ...]
    # The sequences that a model of histories reads unpooled.
    pairs: tuple[ExportedPair, ...] = ()
    # What was left out of the export, and why.
    notes: tuple[str, ...] = ()
    label: str
    dataset: DatasetSpec
    run: RunSpec
    # Number of rows in `reference/`, which have the trained model's logits.
    reference_rows: PositiveInt
    versions: dict[str, str]
    parity: tuple[Parity, ...] = ()

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        known = {feature.name for feature in self.sparse}
        for name in (name for pair in self.pairs for name in (*pair.target, *pair.history)):
            if name not in known:
                raise ValueError(f"a pair names {name!r}, which is not a feature with ids")
        return self

    @model_validator(mode="after")
    def _forms_are_known(self) -> Self:
        for embedding, _ in self.embeddings:
            unknown = sorted(set(embedding.forms) - set(FORMS))
            if unknown or not embedding.forms:
                raise ValueError(
                    f"{embedding.name}: table forms must be among {', '.join(FORMS)}, "
                    f"got {', '.join(unknown) or 'none'}"
                )
        return self

    @property
    def sparse(self) -> tuple[ExportedFeature, ...]:
        """The features that are ids, in the order of the graphs' inputs."""
        return tuple(f for f in self.features if f.kind != "numerical")

    @property
    def embeddings(self) -> tuple[tuple[ExportedEmbedding, ExportedFeature], ...]:
        """Each embedding and the feature whose ids it takes: features' own, then attention's."""
        return (
            *((feature, feature) for feature in self.sparse),
            *((f.attention, f) for f in self.sparse if f.attention is not None),
        )

    @property
    def histories(self) -> frozenset[str]:
        """The sequences whose vectors are not pooled."""
        return frozenset(name for pair in self.pairs for name in pair.history)

    @property
    def forms(self) -> tuple[str, ...]:
        """The table forms that any embedding has."""
        return tuple(form for form in FORMS if any(form in e.forms for e, _ in self.embeddings))

    @property
    def numerical(self) -> tuple[ExportedFeature, ...]:
        """The features of the dense input, in the order of its columns."""
        return tuple(f for f in self.features if f.kind == "numerical")


def now() -> str:
    """The time as ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_manifest(export_dir: Path) -> Manifest:
    """Reads `manifest.json` of an export.

    Raises:
        RecsysError: if there is none, or it is damaged or of another format.
    """
    path = export_dir / MANIFEST_FILE
    try:
        content = read_bytes(file_inside(export_dir, MANIFEST_FILE))
        _check_format(content, path)
        return Manifest.model_validate_json(content)
    except (FileNotFoundError, NotADirectoryError):
        raise RecsysError(
            f"{export_dir} is not an export: it has no {MANIFEST_FILE}",
            expected="a folder that `recsys export` wrote",
            got=describe_path(export_dir),
            fix="export a run with `recsys export RUN --out DIR`, and give DIR",
        ) from None
    except PermissionError:
        raise RecsysError("no permission to read the manifest", where=path) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise RecsysError(
            "the manifest is damaged or was written by another version",
            where=f"{path}: {'.'.join(map(str, first['loc']))}".removesuffix(": "),
            expected=first["msg"].removeprefix("Value error, ").removeprefix("Input should be "),
            fix="export the run again",
        ) from None


def describe_path(path: Path) -> str:
    """What a user's path leads to, for messages about a path that leads to the wrong thing."""
    if not path.exists():
        return "a path that does not exist"
    if not path.is_dir():
        return "a file"
    kinds = {
        MANIFEST_FILE: "an export",
        "config.yaml": "a run folder",
        SCHEMA_FILE: "a dataset folder",
    }
    found = next((kind for file, kind in kinds.items() if (path / file).is_file()), None)
    return found or ("a folder of other files" if any(path.iterdir()) else "an empty folder")


def _check_format(content: bytes, path: Path) -> None:
    """Refuses another format by name; any other mistake is left to the full check."""
    try:
        found = json.loads(content)["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    if isinstance(found, int) and 0 < found != FORMAT:
        age = "an earlier" if found < FORMAT else "a later"
        raise RecsysError(
            f"the export was written by {age} version of recsys",
            where=path,
            expected=f"format {FORMAT}",
            got=f"format {found}",
            fix="export the run again with this version, or read the export with the version that "
            "its manifest.json names",
        )


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes `manifest.json` into a folder that is not finished yet."""
    (folder / MANIFEST_FILE).write_text(_to_json(manifest))


def _to_json(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=1, exclude_none=True) + "\n"


def check_export(export_dir: Path) -> Manifest:
    """Checks the checksum of every file and returns the manifest.

    Raises:
        RecsysError: names the first file that is missing, damaged or not part of the export.
    """
    if not (export_dir / MANIFEST_FILE).is_file():
        return load_manifest(export_dir)
    verify_checksums(export_dir)
    sums = (export_dir / CHECKSUM_FILE).read_text()
    if sums.count("\n") != len(sums.splitlines()):  # splitlines also splits at vertical tabs
        raise RecsysError("the checksum file is damaged", where=export_dir / CHECKSUM_FILE)
    return load_manifest(export_dir)


def add_parity(export_dir: Path, parity: Sequence[Parity]) -> Manifest:
    """Appends comparisons to the manifest of a finished export and updates its checksum."""
    manifest = load_manifest(export_dir)
    manifest = manifest.model_copy(update={"parity": (*manifest.parity, *parity)})
    text = _to_json(manifest)
    digest = hashlib.sha256(text.encode()).hexdigest()
    ending = f"  {MANIFEST_FILE}"
    lines = (export_dir / CHECKSUM_FILE).read_text().splitlines()
    sums = "".join(f"{digest + ending if x.endswith(ending) else x}\n" for x in lines)
    _replace(export_dir, {MANIFEST_FILE: text, CHECKSUM_FILE: sums})
    return manifest


def _replace(export_dir: Path, texts: dict[str, str]) -> None:
    """Replaces files; all are written before the first is renamed.

    They are written beside the export, because a reader refuses files without a checksum.
    """
    root = export_dir.resolve()
    try:
        with ExitStack() as writing:
            for name, text in texts.items():
                partial = writing.enter_context(atomic_write(root / name, beside=root))
                partial.write_text(text)
    except OSError as error:
        raise RecsysError(
            "the result cannot be written into the export",
            where=export_dir,
            got=error.strerror,
        ) from None
