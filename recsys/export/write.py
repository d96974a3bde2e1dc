"""`recsys export`: a trained run → a folder that needs nothing of this toolkit to be served."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from safetensors import SafetensorError

from recsys.data.vocabularies import read_vocabulary
from recsys.errors import RecsysError
from recsys.export.checks.reference_rows import count_rows
from recsys.export.checks.written_export import compare_with_run
from recsys.export.compact_tables import write_native
from recsys.export.graphs import write_graphs
from recsys.export.manifest_builder import FeatureDescriber, WrittenTables
from recsys.export.materialized_tables import write_tables
from recsys.export.pairs import write_pairs
from recsys.export.table_forms import Forms, TablesChoice, choose_forms
from recsys.io.atomic import atomic_folder
from recsys.io.checksums import write_checksums
from recsys.io.paths import file_inside, new_file_inside
from recsys.schema import SCHEMA_FILE, Feature, Schema
from recsys.serving.manifest import (
    MANIFEST_FILE,
    DatasetSpec,
    Manifest,
    ModelSpec,
    RunSpec,
    now,
    write_manifest,
)
from recsys.training.run_folder.trained import TrainedRun

PACKAGES = ("recsys", "torch", "torchrec", "onnx", "onnxscript", "onnxruntime", "safetensors")


def export_run(trained: TrainedRun, out: Path, tables: TablesChoice = "both") -> Path:
    """Writes the export folder of a run and compares it with the run; an old export is replaced.

    Nothing appears at `out` unless the tables in every form and both graphs score the data set's
    rows, and the reference rows that the export keeps, as the run does.
    """
    forms = choose_forms(trained.model.embeddings, tables)
    with _new_folder(out) as folder:
        _copy_vocabularies(trained, folder)
        written = _write_tables(trained, forms, folder)
        model = write_graphs(trained.model, trained.schema, trained.config.model.name, folder)
        manifest = _describe(trained, model, written, out)
        _write_schema(trained.schema, manifest, folder)
        write_manifest(manifest, folder)
        parity = compare_with_run(trained, manifest, folder)
        write_manifest(manifest.model_copy(update={"parity": parity}), folder)
        write_checksums(folder)
    return out


def _write_tables(trained: TrainedRun, forms: Forms, folder: Path) -> WrittenTables:
    embeddings, shared = trained.model.embeddings, trained.config.embeddings.shared_tables
    files = write_tables(embeddings, shared, forms.materialized, folder)
    physical, native = write_native(embeddings, forms.rules, files, folder)
    pairs = write_pairs(trained.model, trained.schema, folder)
    return WrittenTables(files, physical, native, pairs, forms.notes)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when all went well."""
    if out.exists() and not (out.is_dir() and _may_be_replaced(out)):
        raise RecsysError(
            f"{out} exists and is not an export", fix="choose another --out, or remove it"
        )
    out = out.resolve()
    try:
        with atomic_folder(out) as folder:
            yield folder
    except (OSError, SafetensorError) as error:
        raise RecsysError("the export cannot be written", where=out, got=error) from None


def _may_be_replaced(out: Path) -> bool:
    return (out / MANIFEST_FILE).is_file() or not any(out.iterdir())


def _describe(trained: TrainedRun, model: ModelSpec, tables: WrittenTables, out: Path) -> Manifest:
    config = trained.config.model_dump_json()
    describe = FeatureDescriber(trained, tables)
    return Manifest(
        created=now(),
        model=model,
        features=tuple(describe(feature) for feature in trained.schema.features),
        pairs=tables.pairs,
        tables=tables.physical,
        notes=tables.notes,
        label=trained.schema.label,
        dataset=DatasetSpec(name=trained.schema.name, fingerprint=trained.schema.fingerprint()),
        run=RunSpec(
            folder=Path(os.path.relpath(trained.run_dir, out)).as_posix(),
            config_sha256=hashlib.sha256(config.encode()).hexdigest(),
        ),
        reference_rows=count_rows(trained.schema.features, tables.pairs),
        versions={package: version(package) for package in PACKAGES},
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
    """The data set's schema, which tells how raw files are read, with the export's vocabularies."""
    features = tuple(
        Feature.model_validate(f.model_dump(include=set(Feature.model_fields)))
        for f in manifest.features
    )
    exported = schema.model_copy(update={"features": features})
    (folder / SCHEMA_FILE).write_text(exported.model_dump_json(indent=1))
