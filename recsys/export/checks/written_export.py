"""Compares a newly written export with its run, before the export gets its name."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.errors import RecsysError
from recsys.export.checks.trained_model import RunReference, WholeGraphFile
from recsys.serving.encoded_rows import read_encoded
from recsys.serving.manifest import Manifest, Parity
from recsys.serving.reader import ExportReader
from recsys.serving.search_stage import SearchStage
from recsys.serving.table_forms import get_form
from recsys.serving.table_forms.base import Floats
from recsys.training.run_folder.trained import TrainedRun
from recsys.verification.comparison import Comparison
from recsys.verification.reader_process import COMPARED_VECTOR_ROWS
from recsys.verification.reference_rows import Range, generate_rows, write_reference
from recsys.verification.search_ties import SearchTies

GENERATED = "generated rows"
COMPARED_SEARCHES = 64
USUAL = (0.05, 0.95)  # quantiles of the range that generated numbers are from


def compare_with_run(trained: TrainedRun, manifest: Manifest, folder: Path) -> tuple[Parity, ...]:
    """Writes the reference rows; compares their scores and those of the dataset's first rows.

    Compared are every form of the tables with the ONNX graph, and the .pt2 graph.
    """
    reference = RunReference(trained.model, trained.schema)
    rows = next(read_encoded(trained.dataset_dir, manifest))[:COMPARED_VECTOR_ROWS]
    generated = generate_rows(manifest, _ranges(rows, manifest))
    write_reference(folder, generated, reference.logits(generated))
    reader = ExportReader(folder, check=False)
    compare = _Comparer(folder, manifest, reference, reader)
    comparisons = [*compare(rows, str(trained.dataset_dir)), *compare(generated, GENERATED)]
    for comparison in comparisons:
        comparison.raise_if_failed(reader)
    reader.check_forms_agree()
    for some in (rows, generated):
        check_search(folder, manifest, reference, some)
    return tuple(comparison.result() for comparison in comparisons)


class _Comparer:
    """Rows → comparisons of each form and of the whole graph."""

    def __init__(
        self, folder: Path, manifest: Manifest, reference: RunReference, reader: ExportReader
    ) -> None:
        self.manifest, self.reference, self.reader = manifest, reference, reader
        self.whole, self.ties = WholeGraphFile(folder, manifest), SearchTies(folder, manifest)

    def __call__(self, rows: pl.DataFrame, data: str) -> list[Comparison]:
        manifest, reference, reader, ties = self.manifest, self.reference, self.reader, self.ties
        expected, vectors = reference.logits(rows), reference.vectors(rows)
        comparisons = []
        for form in manifest.forms:
            dense = Comparison("dense", reference, data, manifest, form, ties)
            dense.add(rows, reader.score(rows, form).logits, expected)
            dense.add_vectors(rows, reader.vectors(rows, form), vectors)
            comparisons.append(dense)
        whole = Comparison("whole", reference, data, manifest, ties=ties)
        whole.add(rows, self.whole.logits(rows), expected)
        return [*comparisons, whole]


def _ranges(rows: pl.DataFrame, manifest: Manifest) -> dict[str, Range]:
    """The range of most values of each numerical feature, in these rows."""
    ranges = {}
    for feature in manifest.numerical:
        values = rows[feature.name].to_numpy()
        low, high = np.quantile(values, USUAL) if len(values) else (0.0, 1.0)
        ranges[feature.name] = (float(low), float(high))
    return ranges


def check_search(
    export_dir: Path, manifest: Manifest, reference: RunReference, rows: pl.DataFrame
) -> None:
    """Refuses an export whose search finds other behaviors than the model's, in the first rows."""
    for pair, exported in enumerate(manifest.pairs):
        if exported.search is None:
            continue
        names = [*exported.target, *exported.history]
        some = rows.filter(pl.col(exported.history[0]).list.len() > 0)[:COMPARED_SEARCHES]
        _, expected = reference.retrieve(some, exported.search.num_found, pair)
        for form in manifest.forms:
            stage = SearchStage(export_dir, pair, form, check=False)
            for row, scores in zip(some.select(names).iter_rows(named=True), expected, strict=True):
                _check_row(stage, row, scores[scores > -np.inf], form)


def _check_row(stage: SearchStage, row: dict[str, Any], expected: Floats, form: str) -> None:
    got, tolerance = stage.retrieve(row, row).scores, get_form(form).tolerance
    if got.shape != expected.shape or not np.allclose(got, expected, tolerance, tolerance):
        raise RecsysError(
            f"the search stage and the model find different behaviors ({form} tables)",
            where=f"{row}",
            expected=f"scores {expected}",
            got=got,
            fix="export the run again",
        )
