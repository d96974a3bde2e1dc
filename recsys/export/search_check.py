"""The search stage of an export against the model's own."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.errors import RecsysError
from recsys.export.decoder import Floats
from recsys.export.embeddings import Form
from recsys.export.manifest import TOLERANCE, Manifest
from recsys.export.reference import RunReference
from recsys.export.search_stage import SearchStage

COMPARED_SEARCHES = 64


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
