"""`recsys verify`: an independent reader scores rows and must agree with the trained model.

Only the ONNX graph of the export is executed, after a check, and our own decoder of its tables.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import polars as pl

from recsys.errors import RecsysError
from recsys.serving.encoded_rows import read_encoded
from recsys.serving.manifest import Manifest, Parity, add_parity, check_export
from recsys.serving.reader import ExportReader
from recsys.verification.comparison import Comparison, KnownScores, ModelReference, Reference
from recsys.verification.reader_process import COMPARED_VECTOR_ROWS, ReaderProcess, start_reader
from recsys.verification.reference_rows import read_reference
from recsys.verification.search_ties import SearchTies

RawChunk = tuple[pl.DataFrame, pl.DataFrame]
REFERENCE_ROWS = "the export (reference rows)"


def verify_export(
    export_dir: Path,
    data: Path,
    raw_chunks: Iterable[RawChunk] | None = None,
    *,
    find_run: Callable[[Path, Manifest], ModelReference | None] = lambda *_: None,
) -> tuple[Parity, ...]:
    """Checks every file, scores `data` and the reference rows, and records it in the manifest.

    The reference rows must give the logits that the trained model gave at export. The scores of
    the data are compared with the run's or, without a run, between the table forms.

    Args:
        export_dir: a folder that `recsys export` wrote.
        data: a dataset, split folder or Parquet file; with `raw_chunks` only a name for messages.
        raw_chunks: pairs (raw columns, the same rows encoded by the data pipeline). The reader
            gets the first and must encode it as the second.
        find_run: returns the trained model of the export and manifest, None if it is gone.

    Returns:
        A certificate for each table form and the data, then for each form and the reference rows.

    Raises:
        RecsysError: for a damaged file, a value that is encoded differently, an id whose vectors
            differ between forms, or a vector or probability that differs from the reference by
            more than the form's tolerance.
    """
    manifest = check_export(export_dir)
    stored_rows, logits = read_reference(export_dir, manifest)
    pairs: Iterable[tuple[pl.DataFrame | None, pl.DataFrame]]
    pairs = zip(repeat(None), read_encoded(data, manifest)) if raw_chunks is None else raw_chunks
    chunks = ((raw, encoded) for raw, encoded in pairs if len(encoded))
    first = list(islice(chunks, 1))  # wrong data is reported before a run is loaded
    if not first:
        raise RecsysError("the data has no rows to compare", where=data, fix="give data with rows")
    run = find_run(export_dir, manifest)
    ties = SearchTies(export_dir, manifest)
    stored = {
        form: Comparison("reader", KnownScores("stored"), REFERENCE_ROWS, manifest, form, ties)
        for form in manifest.forms
    }
    compared = {
        form: Comparison("reader", reference, str(data), manifest, form, ties)
        for form, reference in _references(manifest, run).items()
    }
    with tempfile.TemporaryDirectory() as out, start_reader(export_dir, Path(out)) as reader:
        reader.check_forms_agree()
        reader.score(stored_rows, raw=False, is_first=False)
        for form, comparison in stored.items():
            comparison.add(stored_rows, reader.logits(form), logits)
        rows = 0
        for raw, encoded in chain(first, chunks):
            reader.score(encoded if raw is None else raw, raw=raw is not None, is_first=rows == 0)
            if raw is not None:
                check_encoding(manifest, raw, reader.encoded(), encoded, rows)
            _compare(compared, reader, encoded, run, is_first=rows == 0)
            rows += len(encoded)
    return _record(export_dir, [*compared.values()], [*stored.values()])


def _references(manifest: Manifest, run: ModelReference | None) -> dict[str, Reference | None]:
    """The reference of each form for the data's scores: the run, or else the first form."""
    if run is not None:
        return dict.fromkeys(manifest.forms, run)
    first, *others = manifest.forms
    return {first: None, **dict.fromkeys(others, KnownScores("form"))}


def _compare(
    comparisons: Mapping[str, Comparison],
    reader: ReaderProcess,
    encoded: pl.DataFrame,
    run: ModelReference | None,
    *,
    is_first: bool,
) -> None:
    """Adds the rows that the reader has just scored; compares vectors of the first rows."""
    first_form = next(iter(comparisons))
    expected = reader.logits(first_form) if run is None else run.logits(encoded)
    head = encoded[:COMPARED_VECTOR_ROWS]
    vectors = run.vectors(head) if is_first and run is not None else {}
    for form, comparison in comparisons.items():
        comparison.add(encoded, reader.logits(form), expected)
        if vectors:
            comparison.add_vectors(head, reader.vectors(form), vectors)


def _record(
    export_dir: Path, compared: list[Comparison], stored: list[Comparison]
) -> tuple[Parity, ...]:
    """Records all comparisons, then raises the first failure, of the reference rows if any."""
    parity = tuple(comparison.result() for comparison in (*compared, *stored))
    add_parity(export_dir, parity)
    if not all(result.passed for result in parity):
        reader = ExportReader(export_dir, check=False)
        for comparison in (*stored, *compared):
            comparison.raise_if_failed(reader)
    return parity


def check_encoding(
    manifest: Manifest, raw: pl.DataFrame, own: pl.DataFrame, encoded: pl.DataFrame, first_row: int
) -> None:
    """Refuses raw rows that the reader and the data pipeline encode differently."""
    for feature in manifest.features:
        got, expected = own[feature.name], encoded[feature.name]
        if feature.kind == "numerical":
            same = np.isclose(got.to_numpy(), expected.to_numpy(), rtol=1e-5, atol=1e-6)
            differs = ~same
        else:
            differs = (got != expected.cast(got.dtype)).to_numpy()
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            raise RecsysError(
                f"{feature.name}: the export and the data pipeline encode a raw value differently",
                where=f"row {first_row + row} (counted from 0), column {feature.column!r}",
                expected=f"{raw[feature.column][row]!r} → {expected[row]!r}, by the data pipeline",
                got=f"{got[row]!r}, by the export's reader",
                fix="copy the export again from its source, and use the recsys version that its "
                "manifest.json names",
            )
