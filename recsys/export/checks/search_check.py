"""The search stage of an export against the model's own, and rows that hang by a hair.

Which of two behaviours is the last to be found may depend on rounding, and then a row's score is
not the same on two machines, though nothing is wrong with either.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.errors import RecsysError
from recsys.export.checks.reference import RunReference
from recsys.serving.decoder import Floats
from recsys.serving.features import Form
from recsys.serving.manifest import TOLERANCE, Manifest
from recsys.serving.search_stage import SearchStage

COMPARED_SEARCHES = 64
TIE = 1e-5  # of the larger score: what rounding may make of two sums of products


def check_search(
    export_dir: Path, manifest: Manifest, reference: RunReference, rows: pl.DataFrame
) -> None:
    """Refuses an export that finds other behaviours than the model, in the first rows of these."""
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


def _check_row(stage: SearchStage, row: dict[str, Any], expected: Floats, form: Form) -> None:
    got = stage.retrieve(row, row).scores
    if got.shape != expected.shape or not np.allclose(got, expected, TOLERANCE, TOLERANCE):
        raise RecsysError(
            f"the search stage and the model find other behaviours ({form} tables)",
            where=f"{row}",
            expected=f"scores {expected}",
            got=got,
            fix="export the run again",
        )


class SearchTies:
    """Tells rows whose last found and first not found behaviour score alike."""

    def __init__(self, export_dir: Path, manifest: Manifest) -> None:
        searched = [i for i, pair in enumerate(manifest.pairs) if pair.search is not None]
        self.stages = [SearchStage(export_dir, pair, check=False) for pair in searched]

    def is_tie(self, encoded: pl.DataFrame) -> bool:
        """Of one row."""
        row = encoded.row(0, named=True)
        return any(_is_tie(stage, row) for stage in self.stages)


def _is_tie(stage: SearchStage, row: dict[str, Any]) -> bool:
    k = stage.search.num_found
    scores = stage.retrieve(row, row, k + 1).scores.astype(np.float64)
    if len(scores) <= k:
        return False
    return bool(scores[k - 1] - scores[k] <= TIE * np.abs(scores).max())
