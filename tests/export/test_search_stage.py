"""The search stage of an export alone, with numpy, against the model's own."""

import shutil

import numpy as np
import pytest

from recsys.errors import RecsysError
from recsys.export.checks.trained_model import RunReference
from recsys.serving.search_stage import SearchStage
from tests.export.histories import ITEMS, LONGEST, rows_of


@pytest.mark.parametrize(
    ("model", "pair"), [("twin", 0), ("sim_hard", 0), ("dare", 0), ("dare", 1)]
)
@pytest.mark.parametrize("form", ["materialized", "native"])
def test_the_search_stage_alone_finds_what_the_model_finds(place_of_histories, model, pair, form):
    trained, export = place_of_histories(model)
    rows = rows_of(trained)
    stage = SearchStage(export, pair, form)
    for k in (1, 3, LONGEST + 1):
        ranks, scores = RunReference(trained.model, trained.schema).retrieve(rows, k, pair)
        for row, *expected in zip(rows.iter_rows(named=True), ranks, scores, strict=True):
            found = stage.retrieve(row, row, k)
            is_there = expected[0] > 0
            assert found.ranks.tolist() == expected[0][is_there].tolist()
            np.testing.assert_allclose(found.scores, expected[1][is_there], rtol=1e-5, atol=1e-6)


def test_the_search_stage_reads_attentions_tables_only(place_of_histories, tmp_path):
    trained, export = place_of_histories("dare")
    out = shutil.copytree(export, tmp_path / "export")
    for table in out.glob("tables/*"):
        if "@attention" not in table.name:
            table.unlink()
    row = rows_of(trained).row(0, named=True)
    found = SearchStage(out, check=False).retrieve(row, row)
    assert len(found.ranks) == min(3, len(row["item_history"])) > 0


def test_searches_that_cannot_be_are_refused(place_of_histories):
    def refuses(match, **change):
        with pytest.raises(RecsysError, match=match):
            stage.retrieve(row | change, row | change)

    trained, export = place_of_histories("dare")
    row = rows_of(trained).row(0, named=True)
    stage = SearchStage(export)
    refuses("differ in length", item_history=[1, 2, 3, 4, 5, 6, 7])
    seven = {"item_history": [1] * 7, "category_history": [1] * 7}
    refuses("(?s)longer than the model reads.*at most 6.*7", **seven)
    refuses("item@attention: an id is outside", item=ITEMS)
    with pytest.raises(RecsysError, match="no ids of the feature 'item'"):
        stage.retrieve({"items": 3}, row)
    with pytest.raises(RecsysError, match="no pair 2"):
        SearchStage(export, pair=2)
    with pytest.raises(RecsysError, match="din has no search stage"):
        SearchStage(place_of_histories("din")[1])
