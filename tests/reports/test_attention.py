import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from recsys.config.train import ReportConfig
from recsys.errors import RecsysError
from recsys.metrics import SupportRule
from recsys.reports import write_report
from recsys.reports.attention import relevance_counts
from recsys.reports.attention.contents import PairAttention, RankAttention
from recsys.reports.attention.figures import draw_attention, weight_title
from recsys.reports.attention.map import AttentionMap, MapLabel
from recsys.reports.charts.heat_map import draw_heat_map
from tests.metrics.histories import information_by_loop, ndcg_by_loop, split_rows
from tests.reports.synthetic_attention import SAMPLED_ROWS, sample_of, write_attention
from tests.reports.test_report import Outline

RULE = SupportRule(min_target_rows=100, min_count=20, max_unsupported=0.2)


@pytest.fixture
def truth(run_dir, dataset_dir):
    """The rows, and their weights, of a run with attention."""
    return write_attention(run_dir, dataset_dir)


@pytest.fixture
def pair(request, run_dir, dataset_dir):
    request.getfixturevalue("truth")  # the run must be there first
    return write_report(run_dir, dataset_dir, RULE)["attention"][0]


def first_rows(behaviors):
    return behaviors.ends[SAMPLED_ROWS - 1]


def test_weights_by_rank_are_those_of_the_sample(truth, pair):
    behaviors, weights = truth
    end = first_rows(behaviors)
    weights, ranks = weights[:end].astype(np.float32).astype(float), behaviors.ranks[:end]
    assert (pair["target"], pair["history"], pair["rows"]) == ("visit", "visits", SAMPLED_ROWS)
    assert pair["behaviours"] == end
    assert [entry["rank"] for entry in pair["by_rank"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    for entry in pair["by_rank"]:
        own = weights[ranks == entry["rank"]]
        assert entry["behaviours"] == len(own)
        assert entry["mean_weight"] == pytest.approx(own.mean())
        assert entry["share"] == pytest.approx(own.sum() / weights.sum())


def test_retrieval_is_judged_by_all_rows_of_the_data_set(truth, pair):
    behaviors, weights = truth
    sampled = next(split_rows(behaviors, chunks=6000 // SAMPLED_ROWS))
    ranks = behaviors.top_ranks(weights, 3)[:SAMPLED_ROWS]
    expected = ndcg_by_loop(sampled, ranks, *vars(RULE).values(), counted=behaviors)
    found = pair["retrieval"]
    assert (found["ndcg"], found["rows_used"]) == pytest.approx(expected)
    assert 0 < found["rows_used"] < found["rows"] < SAMPLED_ROWS
    assert found["random"] < found["ndcg"] < 1
    assert (found["k"], found["rule"], pair["counted_rows"]) == (3, vars(RULE), 6000)
    assert pair["retrieval_by_feature"] == found  # the same ranks


def test_maps_hold_information_and_mean_weights(truth, pair):
    behaviors, weights = truth
    information = information_by_loop(behaviors)
    found = pair["categories"]
    ids = [entry["id"] for entry in found["rows"]]
    assert sorted(ids) == [1, 2, 3, 4]  # 0 stands for many values
    assert found["rows"] == found["columns"]
    own = [information[ids[1], ids[1], rank] for rank in range(1, 9)]
    assert found["information"][1][1] == pytest.approx(np.mean(own))
    assert found["information"][1][1] > 3 * found["information"][1][2]
    end = first_rows(behaviors)
    targets = behaviors.targets[behaviors.rows][:end]
    chosen = (targets == ids[1]) & (behaviors.ids[:end] == ids[2])
    assert found["weight"][1][2] == pytest.approx(weights[:end][chosen].mean())
    assert found["correlation"] > 0.9
    by_rank = pair["positions"]
    target = pair["positions_target"]["id"]
    assert target == ids[0]
    assert [entry["id"] for entry in by_rank["columns"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    place = [entry["id"] for entry in by_rank["rows"]].index(target)
    assert by_rank["information"][place][0] == pytest.approx(information[target, target, 1])
    assert by_rank["weight"][place][2] == pytest.approx(1 / 3)


def test_the_page_names_values_and_shows_maps(run_dir, pair):
    page = (run_dir / "report.html").read_text()
    assert pair["categories"]["rows"][0]["value"] in ("Lyon", "Graz", "Oslo", "Bern")
    assert "Attention to visits" in page
    assert f"<title>{pair['positions_target']['value']}, 1: " in page
    assert page.count("<svg") == 10
    assert page.count('class="heat"') == 2 * (16 + 5 * 8 - 8)  # the history of id 0 is no row
    assert "Retrieval NDCG" in page
    assert "White is 0, the darkest 1." in page
    outline = Outline()
    outline.feed(page)
    assert outline.open == []


@pytest.mark.usefixtures("truth")
def test_too_few_rows_are_said_to_be_too_few(run_dir, dataset_dir):
    rule = SupportRule(min_target_rows=100_000)
    pair = write_report(run_dir, dataset_dir, rule)["attention"][0]
    assert pair["retrieval"]["ndcg"] is None
    assert pair["retrieval"]["rare_target_rows"] == pair["retrieval"]["rows"]
    assert (pair["categories"], pair["positions"]) == (None, None)
    page = (run_dir / "report.html").read_text()
    assert "whose target has fewer than 100,000 counted rows" in page
    assert page.count("<svg") == 6


@pytest.mark.usefixtures("truth")
def test_without_the_data_set_there_is_attention_but_no_truth(run_dir):
    pair = write_report(run_dir)["attention"][0]
    assert len(pair["by_rank"]) == 8
    assert (pair["counted_rows"], pair["retrieval"], pair["categories"]) == (None, None, None)


@pytest.mark.usefixtures("truth")
def test_counting_stops_when_it_has_enough(run_dir, dataset_dir, monkeypatch):
    monkeypatch.setattr(relevance_counts, "MAX_BEHAVIORS", 5000)
    monkeypatch.setattr(relevance_counts, "CHUNK_ROWS", 700)
    pair = write_report(run_dir, dataset_dir, RULE)["attention"][0]
    assert pair["counted_rows"] == 1400


def test_a_model_without_a_search_has_weights_alone(truth, run_dir, dataset_dir):
    sample = sample_of(*truth).drop_columns(["retrieved", "retrieved_by_feature"])
    pq.write_table(sample, run_dir / "attention" / "test.parquet")
    pair = write_report(run_dir, dataset_dir, RULE)["attention"][0]
    assert (pair["retrieval"], pair["retrieval_by_feature"]) == (None, None)
    assert pair["categories"]["correlation"] > 0.9


def test_weights_of_one_size_have_no_correlation(truth, run_dir, dataset_dir):
    behaviors, weights = truth
    sample = sample_of(behaviors, np.ones_like(weights))
    pq.write_table(sample, run_dir / "attention" / "test.parquet")
    pair = write_report(run_dir, dataset_dir, RULE)["attention"][0]
    assert pair["categories"]["correlation"] is None
    assert "are about equal" in (run_dir / "report.html").read_text()


@pytest.mark.usefixtures("truth")
def test_a_sample_of_another_split_is_not_shown(run_dir, dataset_dir):
    (run_dir / "attention" / "test.parquet").rename(run_dir / "attention" / "valid.parquet")
    assert write_report(run_dir, dataset_dir)["attention"] == []


@pytest.mark.usefixtures("truth")
def test_a_damaged_sample_is_named(run_dir):
    path = run_dir / "attention" / "test.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RecsysError, match=r"attention/test\.parquet"):
        write_report(run_dir)


@pytest.mark.usefixtures("truth")
def test_a_missing_file_of_the_data_set_is_named(run_dir, dataset_dir):
    (dataset_dir / "train" / "part-00000.parquet").unlink()
    with pytest.raises(RecsysError, match=r"part-00000\.parquet"):
        write_report(run_dir, dataset_dir)


def test_colours_run_from_zero_to_the_highest_value():
    svg = draw_heat_map(
        [[0.5, None], [2.0, 0.0]], ["a", "<b>"], ["x", "a long column's name"], unit="", label="m"
    )
    assert [part.split('"')[0] for part in svg.split('fill-opacity="')[1:]] == [
        "0.250", "1.000", "0.000",
    ]  # fmt: skip
    assert svg.count('class="hole"') == 1
    assert "<title>a, a long column&#39;s name: none</title>" in svg
    assert "a long column&#39;s…" in svg
    assert "&lt;b&gt;" in svg


def test_long_column_names_are_slanted_and_get_the_height_that_they_need():
    def height(name):
        svg = draw_heat_map([[1.0] * 20], ["a"], [name] * 20, unit="", label="m")
        return "rotate(-55" in svg, int(svg.split('viewBox="0 0 460 ')[1].split('"')[0])

    (short_is_slanted, short), (is_slanted, long) = height("12"), height("4756105")
    assert (short_is_slanted, is_slanted) == (False, True)
    assert long - short == pytest.approx(7 * 7 * 0.82, abs=2)


def test_titles_say_what_the_values_are_and_mark_ids_without_one():
    rows = (MapLabel(id=5), MapLabel(id=6, value="62"))
    found = AttentionMap(
        rows=rows,
        columns=rows,
        information=((0.1, 0.3), (0.0, 0.2)),
        weight=((0.1, 0.2), (None, 0.4)),
        correlation=None,
        rank_correlation=None,
    )
    ranks = found.model_copy(update={"columns": (MapLabel(id=1), MapLabel(id=2))})
    pair = PairAttention(
        target="category",
        history="categories",
        rows=9,
        behaviours=9,
        by_rank=(),
        categories=found,
        positions=ranks,
        positions_target=rows[1],
    )
    pairs, _, positions, _ = draw_attention(pair)
    assert pairs.title == (
        "Most informative pair: category 62 in the history of target category id 5 (0.3 bits)"
    )
    assert positions.title == (
        "Most informative for target category 62: category id 5 at rank 2 (0.3 bits)"
    )
    assert "<title>id 5, 2: 0.3 bits</title>" in positions.svg


def test_colours_run_from_the_lowest_where_there_are_negative_values():
    svg = draw_heat_map([[-1.0, 0.0, 1.0]], ["a"], ["x", "y", "z"], unit="", label="m")
    assert 'fill-opacity="0.500"' in svg


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (0.5, 0.1, "is 5 times that of rank 9"),
        (0.1, 0.4, "is 0.25 times that of rank 9"),
        (0.1, -0.4, "Mean attention weight by rank"),
    ],
)
def test_the_title_says_how_weights_fall(first, last, words):
    ends = [
        RankAttention(rank=rank, behaviours=30, mean_weight=weight, share=0.1)
        for rank, weight in ((1, first), (9, last))
    ]
    assert words in weight_title(*ends)


@pytest.mark.usefixtures("truth")
def test_ranks_beyond_the_listed_are_put_together(run_dir, monkeypatch):
    monkeypatch.setattr("recsys.reports.attention.contents.MAX_RANKS", 3)
    whole = pl.DataFrame(write_report(run_dir)["attention"][0]["by_rank"])
    assert whole["rank"].to_list() == [1, 2, 3, None]
    assert whole["share"].sum() == pytest.approx(1)


def test_the_configs_rule_is_the_published_one():
    assert ReportConfig().retrieval == SupportRule()
