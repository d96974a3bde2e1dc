"""`recsys verify`: an independent reader scores the rows and must agree with the model.

Nothing of a stranger runs here but the ONNX graph, checked first, and our own decoder of tables.
"""

import tempfile
from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.export.checks.comparison import (
    COMPARED_VECTOR_ROWS,
    Comparison,
    KnownScores,
    Reference,
    check_encoding,
)
from recsys.export.checks.exported_run import find_run
from recsys.export.checks.reader_process import ReaderProcess, start_reader
from recsys.export.checks.reference_rows import read_reference
from recsys.export.checks.search_check import SearchTies
from recsys.serving.features import Form
from recsys.serving.manifest import Manifest, Parity, add_parity, check_export
from recsys.serving.reader import ExportReader
from recsys.serving.rows import read_encoded

if TYPE_CHECKING:
    from recsys.export.checks.reference import RunReference

Floats = NDArray[np.float32]
RawChunk = tuple[pl.DataFrame, pl.DataFrame]
REFERENCE_ROWS = "the export (reference rows)"


def verify_export(
    export_dir: Path,
    data: Path,
    raw_chunks: Iterable[RawChunk] | None = None,
    *,
    run_dir: Path | None = None,
) -> tuple[Parity, ...]:
    """Checks every file, scores `data` and the reference rows, records it in the manifest.

    Of the data first, then of the reference rows: a comparison for each form of the tables. The
    reference rows must give the logits that the trained model gave at export. The data's scores are
    compared with the run's, or, where there is no run, with those of the other form.

    Args:
        export_dir: what `recsys export` wrote.
        data: an encoded data set, split folder or Parquet file; with `raw_chunks` only a name.
        raw_chunks: pairs (raw columns, the same rows encoded by the data pipeline). The reader
            gets the first and must arrive at the second.
        run_dir: the run to compare with; by default the one that was exported if it is still
            there.

    Raises RecsysError for a damaged file, an id that is encoded differently, an id whose forms
    differ, a vector that differs from the run's by more than 1e-6, or a probability by 1e-5.
    """
    manifest = check_export(export_dir)
    stored_rows, logits = read_reference(export_dir, manifest)
    run = find_run(export_dir, manifest, run_dir)
    ties = SearchTies(export_dir, manifest)
    stored = {
        form: Comparison("reader", KnownScores("stored"), REFERENCE_ROWS, manifest, form, ties)
        for form in manifest.forms
    }
    compared = {
        form: Comparison("reader", reference, str(data), manifest, form, ties)
        for form, reference in _references(manifest, run).items()
    }
    chunks: Iterable[tuple[pl.DataFrame | None, pl.DataFrame]]
    chunks = zip(repeat(None), read_encoded(data, manifest)) if raw_chunks is None else raw_chunks
    with tempfile.TemporaryDirectory() as out, start_reader(export_dir, Path(out)) as reader:
        reader.check_forms_agree()
        reader.score(stored_rows, raw=False, is_first=False)
        for form, comparison in stored.items():
            comparison.add(stored_rows, reader.logits(form), logits)
        rows = 0
        for raw, encoded in chunks:
            reader.score(encoded if raw is None else raw, raw=raw is not None, is_first=rows == 0)
            if raw is not None:
                check_encoding(manifest, raw, reader.encoded(), encoded, rows)
            _compare(compared, reader, encoded, run, is_first=rows == 0)
            rows += len(encoded)
    if not rows:
        raise RecsysError("there is no row to compare", where=data)
    return _record(export_dir, [*compared.values()], [*stored.values()])


def _references(manifest: Manifest, run: "RunReference | None") -> dict[Form, Reference | None]:
    """By form, what the data's scores are compared with: the run, or else the first form's."""
    if run is not None:
        return dict.fromkeys(manifest.forms, run)
    first, *others = manifest.forms
    return {first: None, **dict.fromkeys(others, KnownScores("form"))}


def _compare(
    comparisons: Mapping[Form, Comparison],
    reader: ReaderProcess,
    encoded: pl.DataFrame,
    run: "RunReference | None",
    *,
    is_first: bool,
) -> None:
    """What the reader has just scored, against the reference; the vectors of the first rows."""
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
    """Into the manifest, good or bad; a failure of the reference rows is told first."""
    parity = tuple(comparison.result() for comparison in (*compared, *stored))
    add_parity(export_dir, parity)
    if not all(result.passed for result in parity):
        reader = ExportReader(export_dir, check=False)
        for comparison in (*stored, *compared):
            comparison.raise_if_failed(reader)
    return parity
