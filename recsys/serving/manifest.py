"""manifest.json: what an export holds, and what has been compared with it so far."""

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
from recsys.io.paths import RelativePath, file_inside, read_bytes
from recsys.serving.features import (
    FORMS,
    ExportedEmbedding,
    ExportedFeature,
    ExportedPair,
    Form,
    PhysicalTable,
)

MANIFEST_FILE = "manifest.json"
ONNX_FILE, PT2_FILE = "model/dense.onnx", "model/model.pt2"
ROWS_FILE, LOGITS_FILE = "reference/rows.parquet", "reference/logits.parquet"
FORMAT: Literal[3] = 3
TOLERANCE = 1e-5  # largest allowed difference of a probability
# Largest allowed difference of a vector's entry, relative to the feature's largest one above 1.
VECTOR_TOLERANCE = 1e-6


class TensorSpec(BaseConfig):
    """One input or output; a size that may differ from call to call is a word."""

    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[PositiveInt | str, ...]


class GraphSpec(BaseConfig):
    """One graph file and its tensors, in order."""

    file: RelativePath
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ModelSpec(BaseConfig):
    """`dense` starts from looked-up vectors (ONNX), `whole` from ids (torch.export, positional).

    Sizes of inputs: batch, the rows; total_*, the ids of all rows of a sequence, end to end.
    In `whole` a sequence feature is two inputs: its ids (total,), and how many each row has.
    In `dense` it is one, (batch, dim), and a history is one too, (total, dim); the lengths (batch,)
    of a pair's histories are one input, named by the pair.
    """

    name: str
    dense: GraphSpec
    whole: GraphSpec


class DatasetSpec(BaseConfig):
    """The data that the model was trained on."""

    name: str
    fingerprint: str


class RunSpec(BaseConfig):
    """The run that was exported; `folder` is relative to the export."""

    folder: str
    config_sha256: str


class Parity(BaseConfig):
    """One comparison of probabilities over `rows` rows; AUCs where both labels occur.

    `candidate` is what was exported, `reference` what it must agree with: the trained run; its
    logits `stored` with the export's reference rows; the export's other `form` of tables; None: the
    rows were scored and nothing was there to compare with. `form`: which tables the candidate has
    read (a feature that lacks this form was read in its other one). `cores`: of the machine;
    onnxruntime scores with a thread on each, as it does by default.
    `max_vector_difference`: of the first rows' vectors, where the reference shows them.
    `search_ties`: rows that differ and are left out, because rounding decides in them which of two
    behaviours a search finds last.
    """

    candidate: Literal["dense", "whole", "reader"]
    form: Form | None = None
    reference: Literal["run", "stored", "form"] | None = None
    data: str
    rows: NonNegativeInt
    cores: PositiveInt | None = None
    max_abs_difference: NonNegativeFloat | None = None
    tolerance: NonNegativeFloat = TOLERANCE
    max_vector_difference: NonNegativeFloat | None = None
    vector_tolerance: NonNegativeFloat = VECTOR_TOLERANCE
    search_ties: NonNegativeInt = 0
    candidate_auc: float | None = None
    reference_auc: float | None = None
    passed: bool
    at: str


class Manifest(BaseConfig):
    """Everything that a serving engineer needs to score a row from the other files.

    `tables`: the physical tables of the native form by name. `notes`: what was left out, and why.
    `pairs`: of a model of histories, the sequences that it reads one by one. `reference_rows`: how
    many rows `reference/` holds, with the trained model's logits.
    """

    format: Literal[3] = FORMAT
    created: str
    model: ModelSpec
    features: tuple[ExportedFeature, ...]
    pairs: tuple[ExportedPair, ...] = ()
    tables: dict[str, PhysicalTable] = {}
    notes: tuple[str, ...] = ()
    label: str
    dataset: DatasetSpec
    run: RunSpec
    reference_rows: PositiveInt
    versions: dict[str, str]
    parity: tuple[Parity, ...] = ()

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        known = {feature.name for feature in self.sparse}
        for name in (name for pair in self.pairs for name in (*pair.target, *pair.history)):
            if name not in known:
                raise ValueError(f"a pair speaks of {name!r}, which is no feature of ids")
        return self

    @property
    def sparse(self) -> tuple[ExportedFeature, ...]:
        """The features that are ids, in the order of the graphs' inputs."""
        return tuple(f for f in self.features if f.kind != "numerical")

    @property
    def embeddings(self) -> tuple[tuple[ExportedEmbedding, ExportedFeature], ...]:
        """Every embedding and the feature whose ids it takes: features' own, then attention's."""
        return (
            *((feature, feature) for feature in self.sparse),
            *((f.attention, f) for f in self.sparse if f.attention is not None),
        )

    @property
    def histories(self) -> frozenset[str]:
        """The sequences whose vectors are not pooled."""
        return frozenset(name for pair in self.pairs for name in pair.history)

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms that any embedding has."""
        return tuple(form for form in FORMS if any(form in e.forms for e, _ in self.embeddings))

    @property
    def numerical(self) -> tuple[ExportedFeature, ...]:
        """The features of the dense input, in the order of its columns."""
        return tuple(f for f in self.features if f.kind == "numerical")


def now() -> str:
    """The time as ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_manifest(export_dir: Path) -> Manifest:
    """Reads `manifest.json`; a folder without a whole one is no export."""
    path = export_dir / MANIFEST_FILE
    try:
        content = read_bytes(file_inside(export_dir, MANIFEST_FILE))
        _check_format(content, path)
        return Manifest.model_validate_json(content)
    except (FileNotFoundError, NotADirectoryError):
        raise RecsysError(
            f"{export_dir} is not an export: it has no {MANIFEST_FILE}",
            expected="a folder that `recsys export` wrote",
        ) from None
    except PermissionError:
        raise RecsysError("no permission to read the manifest", where=path) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise RecsysError(
            "the manifest is damaged or was written by another version",
            where=f"{path}: {'.'.join(map(str, first['loc']))}",
            got=first["msg"],
            fix="export the run again",
        ) from None


def _check_format(content: bytes, path: Path) -> None:
    """Another format is named as such; anything else that is wrong is for the full check."""
    try:
        found = json.loads(content)["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    if isinstance(found, int) and 0 < found < FORMAT:
        raise RecsysError(
            "the export was written by an earlier version of recsys",
            where=path,
            expected=f"format {FORMAT}",
            got=f"format {found}, which has no reference rows, and whose graphs of models of "
            "histories may score wrongly on several threads",
            fix="export the run again",
        )
    if isinstance(found, int) and found > FORMAT:
        raise RecsysError(
            "the export was written by a later version of recsys",
            where=path,
            expected=f"format {FORMAT}",
            got=f"format {found}",
            fix="install that version, or export the run again with this one",
        )


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes `manifest.json` into a folder that is not finished yet."""
    (folder / MANIFEST_FILE).write_text(_to_json(manifest))


def _to_json(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=1, exclude_none=True) + "\n"


def check_export(export_dir: Path) -> Manifest:
    """The manifest of an export whose every file has its checksum; otherwise says which has not."""
    if not (export_dir / MANIFEST_FILE).is_file():
        return load_manifest(export_dir)
    verify_checksums(export_dir)
    sums = (export_dir / CHECKSUM_FILE).read_text()
    if sums.count("\n") != len(sums.splitlines()):  # a vertical tab ends a line too, but not here
        raise RecsysError("the checksum file is damaged", where=export_dir / CHECKSUM_FILE)
    return load_manifest(export_dir)


def add_parity(export_dir: Path, parity: Sequence[Parity]) -> Manifest:
    """Appends comparisons to the manifest of a finished export, and mends its checksum."""
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
    """New contents of files, all written before the first is renamed.

    Not inside the export: a reader would refuse a file that is not in the checksums.
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
