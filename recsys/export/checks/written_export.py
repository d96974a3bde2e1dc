"""A freshly written export against the run that it was made of, before it gets its name."""

from pathlib import Path

import numpy as np
import polars as pl

from recsys.export.checks.comparison import COMPARED_VECTOR_ROWS, Comparison
from recsys.export.checks.reference import RunReference, WholeGraphFile
from recsys.export.checks.reference_rows import Range, generate_rows, write_reference
from recsys.export.checks.search_check import SearchTies, check_search
from recsys.serving.manifest import Manifest, Parity
from recsys.serving.reader import ExportReader
from recsys.serving.rows import read_encoded
from recsys.training.run_folder.trained import TrainedRun

GENERATED = "generated rows"
USUAL = (0.05, 0.95)  # quantiles between which numericals are drawn


def compare_with_run(trained: TrainedRun, manifest: Manifest, folder: Path) -> tuple[Parity, ...]:
    """Writes the reference rows; scores them and the data set's first rows by all that was written.

    Both forms of the tables with the ONNX graph, as users will run it, and the .pt2 graph.
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
    """Where most values of each numerical feature are, in these rows."""
    ranges = {}
    for feature in manifest.numerical:
        values = rows[feature.name].to_numpy()
        low, high = np.quantile(values, USUAL) if len(values) else (0.0, 1.0)
        ranges[feature.name] = (float(low), float(high))
    return ranges
