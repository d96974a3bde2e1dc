"""`recsys verify`: gives raw or encoded rows to the export's independent reader."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import polars as pl

import data_pipelines
from recsys.errors import RecsysError
from recsys.schema import SCHEMA_FILE, load_schema
from recsys.serving.encoded_rows import has_encoded_columns, parquet_schema
from recsys.serving.manifest import MANIFEST_FILE, Parity, load_manifest
from recsys.verification.comparison import REFERENCES
from recsys.verification.verify import verify_export


def verify(
    export_dir: Path | str,
    data: Path | str,
    run_dir: Path | str | None = None,
    *,
    encoded: bool | None = None,
) -> tuple[Parity, ...]:
    """Scores rows with the export's reader, compares the scores, and records it in the export.

    Without torch the rows cannot be compared with a run; the table forms are compared with each
    other, and the reference rows with the trained model's stored logits.

    Args:
        export_dir: a folder that `recsys export` wrote.
        data: a dataset, the folder of a split, a Parquet file of encoded rows, or a raw file.
        run_dir: the run to compare with; by default the exported one, if it exists.
        encoded: whether `data` holds ids or raw values; by default as its contents say.

    Returns:
        A certificate for each table form and `data`, then for each form and the reference rows.

    Raises:
        RecsysError: if the data or the export cannot be read, or a comparison fails.
    """
    export_dir, data = Path(export_dir), Path(data)
    run_dir = None if run_dir is None else Path(run_dir)
    if not (export_dir / MANIFEST_FILE).exists():
        load_manifest(export_dir)  # says what the path leads to
    if not data.exists():
        raise RecsysError(
            "data not found",
            where="--data",
            expected="a dataset folder, the folder of a split, or a raw file",
            got=data,
            fix="check the path",
        )
    if encoded is None:
        encoded = is_encoded(export_dir, data)
    chunks = None if encoded else _raw_chunks(export_dir, data)
    if find_spec("torch") is not None:
        from recsys.export.checks.exported_run import verify_with_run

        return verify_with_run(export_dir, data, chunks, run_dir=run_dir)
    if run_dir is not None:
        raise RecsysError(
            "comparing an export with a run needs torch, which is not installed",
            where="--run",
            fix="pip install 'recsys[train]', or leave --run out",
        )
    return verify_export(export_dir, data, chunks)


def is_encoded(export_dir: Path, data: Path) -> bool:
    """Whether rows are encoded: in a dataset, a split, or a file that cannot be raw.

    Names and suffixes do not count. A file that may be either is refused.
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
            expected="a file inside the folder of its dataset, or a file that fits one kind only",
            fix="add --raw if it holds values that `recsys prepare` reads, or --encoded if it "
            "holds ids that `recsys prepare` wrote",
        )
    return True


def _is_file_of_dataset(file: Path) -> bool:
    """Whether the file is listed in a split of a dataset whose folder it is in."""
    file = file.resolve()
    for folder in file.parents[:2]:
        if (folder / SCHEMA_FILE).is_file():
            splits = load_schema(folder).splits.values()
            listed = {folder / part.path for split in splits for part in split.files}
            return file in listed
    return False


def _raw_chunks(export_dir: Path, raw: Path) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yields raw columns, and the same rows encoded by the data pipeline."""
    schema = load_schema(export_dir)
    encoder = data_pipelines.FrameEncoder(schema, export_dir)
    try:
        for frame in data_pipelines.read_raw(schema, [raw]):
            yield frame, encoder.encode(frame)
    except RecsysError as error:
        raise RecsysError(
            str(error),
            fix=f"{raw} was read as raw rows of {schema.name!r}: give such a file, or a dataset "
            "that `recsys prepare` wrote, or add --encoded if it holds encoded rows",
        ) from None


def describe_parity(comparisons: Sequence[Parity]) -> str:
    """One line for each comparison, for a terminal."""
    return "\n".join(_describe(parity) for parity in comparisons)


def _describe(parity: Parity) -> str:
    rows = f"{parity.rows:,} rows of {parity.data} with {parity.form} tables"
    if parity.reference is None:
        auc = "" if parity.candidate_auc is None else f"; AUC {parity.candidate_auc:.6f}"
        why = "torch is not installed" if find_spec("torch") is None else "the run was not found"
        return f"scored {rows}: not compared with the run, because {why}{auc}"
    return (
        f"verified {rows} against {REFERENCES[parity.reference]}: largest difference "
        f"in probability {parity.max_abs_difference:.1e} (allowed {parity.tolerance:.0e})"
        + _details(parity)
    )


def _details(parity: Parity) -> str:
    candidate, reference = parity.candidate_auc, parity.reference_auc
    vectors, ties = parity.max_vector_difference, parity.search_ties
    is_labelled = candidate is not None and reference is not None
    return (
        ("" if vectors is None else f", in vectors {vectors:.1e} ({parity.vector_tolerance:.0e})")
        + (f"; rows left out because of ties in their search: {ties}" if ties else "")
        + (f"; AUC {candidate:.6f} against {reference:.6f}" if is_labelled else "")
    )
