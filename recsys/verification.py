"""`recsys verify`: brings raw or encoded rows to the export's independent reader."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

import data_pipelines
from recsys.export.manifest import Parity
from recsys.export.verify import verify_export
from recsys.schema import SCHEMA_FILE, load_schema


def verify(export_dir: Path, data: Path, run_dir: Path | None = None) -> tuple[Parity, ...]:
    """Compares each form's scores with the model's on a data set, a split, or raw files."""
    is_encoded = data.suffix == ".parquet" or any(
        (folder / SCHEMA_FILE).is_file() for folder in (data, data.parent)
    )
    chunks = None if is_encoded else _raw_chunks(export_dir, data)
    return verify_export(export_dir, data, chunks, run_dir=run_dir)


def _raw_chunks(export_dir: Path, raw: Path) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Raw columns, and the same rows as the data pipeline encodes them."""
    schema = load_schema(export_dir)
    encoder = data_pipelines.FrameEncoder(schema, export_dir)
    for frame in data_pipelines.read_raw(schema, [raw]):
        yield frame, encoder.encode(frame)


def describe_parity(comparisons: Sequence[Parity]) -> str:
    """One line for a terminal for each form of the tables."""
    return "\n".join(_describe(parity) for parity in comparisons)


def _describe(parity: Parity) -> str:
    candidate, reference = parity.candidate_auc, parity.reference_auc
    is_labelled = candidate is not None and reference is not None
    auc = f"; AUC {candidate:.6f} against {reference:.6f}" if is_labelled else ""
    vectors, ties = parity.max_vector_difference, parity.search_ties
    return (
        f"verified {parity.rows:,} rows of {parity.data} with {parity.form} tables against the "
        f"{'trained run' if parity.reference == 'run' else 'exported graph'}: largest difference "
        f"in probability {parity.max_abs_difference:.1e} (allowed {parity.tolerance:.0e})"
        + ("" if vectors is None else f", in vectors {vectors:.1e} ({parity.vector_tolerance:.0e})")
        + (f"; rows left out, whose searches rounding decides: {ties}" if ties else "")
        + auc
    )
