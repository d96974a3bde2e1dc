"""Rows whose scores depend on rounding, because the search stage has a tie.

Rounding may decide which of two behaviors is the last that is found; then a row's score differs
between machines although both are right.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.serving.manifest import Manifest
from recsys.serving.search_stage import SearchStage

TIE = 1e-5  # relative to the larger score: the rounding of two sums of products


class SearchTies:
    """Finds rows whose last behavior found and first behavior not found have equal scores."""

    def __init__(self, export_dir: Path, manifest: Manifest) -> None:
        searched = [i for i, pair in enumerate(manifest.pairs) if pair.search is not None]
        self.stages = [SearchStage(export_dir, pair, check=False) for pair in searched]

    def is_tie(self, encoded: pl.DataFrame) -> bool:
        """Whether one row has a tie in the search of any pair."""
        row = encoded.row(0, named=True)
        return any(_is_tie(stage, row) for stage in self.stages)


def _is_tie(stage: SearchStage, row: dict[str, Any]) -> bool:
    k = stage.search.num_found
    scores = stage.retrieve(row, row, k + 1).scores.astype(np.float64)
    if len(scores) <= k:
        return False
    return bool(scores[k - 1] - scores[k] <= TIE * np.abs(scores).max())
