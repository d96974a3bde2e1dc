"""`recsys export`: a trained run → a folder that can be served without this package."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from safetensors import SafetensorError

from recsys.data.statistics import read_vocabulary
from recsys.errors import RecsysError
from recsys.export.checks.written_export import compare_with_run
from recsys.export.graphs import write_graphs
from recsys.export.manifest_builder import FeatureDescriber
from recsys.export.pairs import write_pairs
from recsys.export.table_writer import WrittenTables, write_tables
from recsys.io.atomic import atomic_folder
from recsys.io.checksums import write_checksums
from recsys.io.paths import file_inside, new_file_inside
from recsys.schema import SCHEMA_FILE, Feature, Schema
from recsys.serving.features import ExportedPair
from recsys.serving.graph_spec import ModelSpec
from recsys.serving.manifest import (
    MANIFEST_FILE,
    DatasetSpec,
    Manifest,
    RunSpec,
    describe_path,
    now,
    write_manifest,
)
from recsys.serving.table_forms import BOTH
from recsys.training.run_folder.environment import installed_version
from recsys.training.run_folder.trained import TrainedRun
from recsys.verification.reference_rows import count_rows

PACKAGES = ("recsys", "torch", "torchrec", "onnx", "onnxscript", "onnxruntime", "safetensors")


def export_run(trained: TrainedRun, out: Path | str, tables: str = BOTH) -> Path:
    """Exports a run, compares the export with it, and gives the folder its name if they agree.

    Args:
        trained: the run, as `recsys.load_run` reads it.
        out: the folder of the export; an old export there is replaced.
        tables: a form of `recsys.serving.table_forms`, or `both`: materialized and native.

    Returns:
        `out`.

    Raises:
        RecsysError: if `out` holds anything but an export, there is no such form, or the tables in
            any form or a graph give other scores than the run by more than the form's tolerance.
            Then nothing appears at `out`.
    """
    out = Path(out)
    with _new_folder(out) as folder:
        _copy_vocabularies(trained, folder)
        shared = trained.config.embeddings.shared_tables
        written = write_tables(trained.model.embeddings, shared, tables, folder)
        pairs = write_pairs(trained.model, trained.schema, folder)
        model = write_graphs(trained.model, trained.schema, trained.config.model.name, folder)
        manifest = _describe(trained, model, written, pairs, out)
        _write_schema(trained.schema, manifest, folder)
        write_manifest(manifest, folder)
        parity = compare_with_run(trained, manifest, folder)
        write_manifest(manifest.model_copy(update={"parity": parity}), folder)
        write_checksums(folder)
    return out


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` if no error occurs."""
    if out.exists() and not (out.is_dir() and _may_be_replaced(out)):
        raise RecsysError(
            f"{out} exists and is not an export",
            where="--out",
            expected="a new folder, an empty one, or an export to replace",
            got=describe_path(out),
            fix="choose another --out, or remove it",
        )
    out = out.resolve()
    try:
        with atomic_folder(out) as folder:
            yield folder
    except (OSError, SafetensorError) as error:
        raise RecsysError("the export cannot be written", where=out, got=error) from None


def _may_be_replaced(out: Path) -> bool:
    return (out / MANIFEST_FILE).is_file() or not any(out.iterdir())


def _describe(
    trained: TrainedRun,
    model: ModelSpec,
    tables: WrittenTables,
    pairs: tuple[ExportedPair, ...],
    out: Path,
) -> Manifest:
    config = trained.config.model_dump_json()
    describe = FeatureDescriber(trained, tables.forms)
    return Manifest(
        created=now(),
        model=model,
        features=tuple(describe(feature) for feature in trained.schema.features),
        pairs=pairs,
        notes=tables.notes,
        label=trained.schema.label,
        dataset=DatasetSpec(name=trained.schema.name, fingerprint=trained.schema.fingerprint()),
        run=RunSpec(
            folder=Path(os.path.relpath(trained.run_dir, out)).as_posix(),
            config_sha256=hashlib.sha256(config.encode()).hexdigest(),
        ),
        reference_rows=count_rows(trained.schema.features, pairs),
        versions={name: found for name in PACKAGES if (found := installed_version(name))},
    )


def _copy_vocabularies(trained: TrainedRun, folder: Path) -> None:
    for feature in trained.schema.sparse:
        if feature.encoding is None or feature.encoding.kind != "vocabulary":
            continue
        copy = new_file_inside(folder, quote(feature.encoding.file))
        if not copy.exists():
            read_vocabulary(trained.dataset_dir, feature)  # refuses a damaged one
            shutil.copyfile(file_inside(trained.dataset_dir, feature.encoding.file), copy)


def _write_schema(schema: Schema, manifest: Manifest, folder: Path) -> None:
    """The dataset's schema, which states how raw files are read, with the export's vocabularies."""
    features = tuple(
        Feature.model_validate(f.model_dump(include=set(Feature.model_fields)))
        for f in manifest.features
    )
    exported = schema.model_copy(update={"features": features})
    (folder / SCHEMA_FILE).write_text(exported.model_dump_json(indent=1))
