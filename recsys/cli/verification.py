"""`recsys verify`: brings raw or encoded rows to the export's independent reader."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

import data_pipelines
from recsys.errors import RecsysError
from recsys.export.checks.verify import verify_export
from recsys.schema import SCHEMA_FILE, load_schema
from recsys.serving.manifest import Parity, load_manifest
from recsys.serving.rows import has_encoded_columns, parquet_schema

AGAINST = {
    "run": "the trained run",
    "stored": "the trained model's logits, stored at export",
    "form": "the export's other form of tables, as the exported run is not there",
}


def verify(
    export_dir: Path, data: Path, run_dir: Path | None = None, *, encoded: bool | None = None
) -> tuple[Parity, ...]:
    """Compares each form's scores with the model's on a dataset, a split, or raw files.

    encoded: whether `data` holds ids or raw values; None: as its place and contents say.
    """
    if not data.exists():
        raise RecsysError("the data was not found", where=data, fix="check --data")
    if encoded is None:
        encoded = is_encoded(export_dir, data)
    chunks = None if encoded else _raw_chunks(export_dir, data)
    return verify_export(export_dir, data, chunks, run_dir=run_dir)


def is_encoded(export_dir: Path, data: Path) -> bool:
    """True for a dataset, a split, a file of one, or a table that cannot be anything else.

    A name or its ending says nothing. What may be read in both ways is refused.
    """
    if data.is_dir():
        return any((folder / SCHEMA_FILE).is_file() for folder in (data, data.parent))
    if _is_file_of_dataset(data):
        return True
    columns = parquet_schema(data)
    if columns is None or not has_encoded_columns(columns, load_manifest(export_dir)):
        return False
    schema = load_schema(export_dir)
    raw_columns = {feature.column for feature in schema.features}
    if data_pipelines.reads_parquet(schema) and raw_columns <= set(columns.names):
        raise RecsysError(
            "the file may hold raw values or encoded ids: its columns fit both",
            where=data,
            expected="a file of a prepared dataset, inside its folder, or a raw file",
            fix="add --raw if it holds values as `recsys prepare` was given them, or --encoded if "
            "it holds ids as `recsys prepare` wrote them",
        )
    return True


def _is_file_of_dataset(file: Path) -> bool:
    """Whether a dataset around the file lists it in a split."""
    file = file.resolve()
    for folder in file.parents[:2]:
        if (folder / SCHEMA_FILE).is_file():
            splits = load_schema(folder).splits.values()
            listed = {folder / part.path for split in splits for part in split.files}
            return file in listed
    return False


def _raw_chunks(export_dir: Path, raw: Path) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Raw columns, and the same rows as the data pipeline encodes them."""
    schema = load_schema(export_dir)
    encoder = data_pipelines.FrameEncoder(schema, export_dir)
    for frame in data_pipelines.read_raw(schema, [raw]):
        yield frame, encoder.encode(frame)


def describe_parity(comparisons: Sequence[Parity]) -> str:
    """One line for a terminal for each form of the tables and kind of rows."""
    return "\n".join(_describe(parity) for parity in comparisons)


def _describe(parity: Parity) -> str:
    rows = f"{parity.rows:,} rows of {parity.data} with {parity.form} tables"
    if parity.reference is None:
        auc = "" if parity.candidate_auc is None else f"; AUC {parity.candidate_auc:.6f}"
        return f"scored {rows}: the exported run is not there to compare with{auc}"
    return (
        f"verified {rows} against {AGAINST[parity.reference]}: largest difference "
        f"in probability {parity.max_abs_difference:.1e} (allowed {parity.tolerance:.0e})"
        + _details(parity)
    )


def _details(parity: Parity) -> str:
    candidate, reference = parity.candidate_auc, parity.reference_auc
    vectors, ties = parity.max_vector_difference, parity.search_ties
    is_labelled = candidate is not None and reference is not None
    return (
        ("" if vectors is None else f", in vectors {vectors:.1e} ({parity.vector_tolerance:.0e})")
        + (f"; rows left out, whose searches rounding decides: {ties}" if ties else "")
        + (f"; AUC {candidate:.6f} against {reference:.6f}" if is_labelled else "")
    )
