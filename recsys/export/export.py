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

from recsys.checksums import write_checksums
from recsys.data.vocabularies import read_vocabulary
from recsys.errors import RecsysError
from recsys.export.comparison import Comparison
from recsys.export.graphs import DENSE_INPUT, graph_input_names, write_graphs
from recsys.export.manifest import (
    MANIFEST_FILE,
    DatasetSpec,
    ExportedFeature,
    Manifest,
    ModelSpec,
    Parity,
    RunSpec,
    now,
    write_manifest,
)
from recsys.export.reader import ExportReader
from recsys.export.reference import RunReference, WholeReference
from recsys.export.rows import read_encoded
from recsys.export.tables import parquet_twin, write_tables
from recsys.schema import SCHEMA_FILE, Feature, Schema
from recsys.training.runs import TrainedRun

PACKAGES = ("recsys", "torch", "torchrec", "onnx", "onnxscript", "onnxruntime", "safetensors")
COMPARED_ROWS = 4096


def export_run(trained: TrainedRun, out: Path) -> Path:
    """Writes the export folder of a run and compares it with the run; an old export is replaced.

    Nothing appears at `out` unless both graphs score the data set's rows as the run does.
    """
    with _new_folder(out) as folder:
        _copy_vocabularies(trained, folder)
        tables = write_tables(trained.model.embeddings, trained.config.embeddings, folder)
        model = write_graphs(trained.model, trained.schema, trained.config.model.name, folder)
        manifest = _describe(trained, model, tables, out)
        _write_schema(trained.schema, manifest, folder)
        write_manifest(manifest, folder)
        parity = _compare(trained, manifest, folder)
        write_manifest(manifest.model_copy(update={"parity": parity}), folder)
        write_checksums(folder)
    return out


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `out` when all went well."""
    if out.exists() and not (out.is_dir() and _may_be_replaced(out)):
        raise RecsysError(
            f"{out} exists and is not an export", fix="choose another --out, or remove it"
        )
    out = out.resolve()
    partial, old = (out.with_name(f".{out.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        yield partial
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except (OSError, SafetensorError) as error:
        if old.exists() and not out.exists():
            old.rename(out)
        raise RecsysError("the export cannot be written", where=out, got=error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _may_be_replaced(out: Path) -> bool:
    return (out / MANIFEST_FILE).is_file() or not any(out.iterdir())


def _describe(trained: TrainedRun, model: ModelSpec, tables: dict[str, str], out: Path) -> Manifest:
    config = trained.config.model_dump_json()
    return Manifest(
        created=now(),
        model=model,
        features=tuple(_describe_feature(f, trained, tables) for f in trained.schema.features),
        label=trained.schema.label,
        dataset=DatasetSpec(name=trained.schema.name, fingerprint=trained.schema.fingerprint()),
        run=RunSpec(
            folder=Path(os.path.relpath(trained.run_dir, out)).as_posix(),
            config_sha256=hashlib.sha256(config.encode()).hexdigest(),
        ),
        versions={package: version(package) for package in PACKAGES},
    )


def _describe_feature(
    feature: Feature, trained: TrainedRun, tables: dict[str, str]
) -> ExportedFeature:
    embeddings, schema = trained.config.embeddings, trained.schema
    known = feature.model_dump()
    if feature.kind == "numerical":
        method = embeddings.numerical_of(feature.name)
        known |= {
            "graph_input": DENSE_INPUT,
            "dense_column": schema.numerical.index(feature),
            "method": method,
            "dim": embeddings.default.embedding_dim if method == "vector" else 1,
        }
        return ExportedFeature.model_validate(known)
    if feature.encoding is not None and feature.encoding.kind == "vocabulary":
        known["encoding"]["file"] = quote(feature.encoding.file)
    table = tables[feature.name]
    known |= {
        "graph_input": graph_input_names([f.name for f in schema.sparse])[feature.name],
        "method": trained.model.embeddings.methods[feature.name].name,
        "dim": trained.model.embeddings.output_dims[feature.name],
        "table": table,
        "table_parquet": parquet_twin(table),
        "default_row": 0,
        "pooling": embeddings.pooling_of(feature.name) if feature.kind == "sequence" else None,
    }
    return ExportedFeature.model_validate(known)


def _copy_vocabularies(trained: TrainedRun, folder: Path) -> None:
    for feature in trained.schema.sparse:
        if feature.encoding is None or feature.encoding.kind != "vocabulary":
            continue
        source, copy = (
            trained.dataset_dir / feature.encoding.file,
            folder / quote(feature.encoding.file),
        )
        if not copy.exists():
            read_vocabulary(trained.dataset_dir, feature)  # refuses a damaged one
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def _write_schema(schema: Schema, manifest: Manifest, folder: Path) -> None:
    """The data set's schema, which tells how raw files are read, with the export's vocabularies."""
    features = tuple(
        Feature.model_validate(f.model_dump(include=set(Feature.model_fields)))
        for f in manifest.features
    )
    exported = schema.model_copy(update={"features": features})
    (folder / SCHEMA_FILE).write_text(exported.model_dump_json(indent=1))


def _compare(trained: TrainedRun, manifest: Manifest, folder: Path) -> tuple[Parity, ...]:
    """Both graphs against the run, on the first rows of the data set."""
    rows = next(read_encoded(trained.dataset_dir, manifest))[:COMPARED_ROWS]
    reference = RunReference(trained.model, trained.schema)
    expected = reference.logits(rows)
    reader = ExportReader(folder, check=False)
    dense = Comparison("dense", reference, str(trained.dataset_dir), manifest)
    dense.add(rows, reader.score(rows).logits, expected)
    whole = Comparison("whole", reference, str(trained.dataset_dir), manifest)
    whole.add(rows, WholeReference(folder, manifest).logits(rows), expected)
    for comparison in (dense, whole):
        comparison.raise_if_failed(reader)
    return dense.result(), whole.result()
