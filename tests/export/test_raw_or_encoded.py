"""What `verify` takes a file for: its place and contents say so, or an option; never its name."""

import shutil

import polars as pl
import pytest

import data_pipelines
from recsys.cli.verification import is_encoded, verify
from recsys.errors import RecsysError
from recsys.schema import load_schema

ROWS = 40
TYPED = """
file: {format: parquet}
label: {column: clicked}
categorical: {columns: [shop, color]}
numerical: {columns: [price]}
min_count: 1
"""


@pytest.fixture(scope="module")
def parquet_place(tmp_path_factory):
    """A folder with a data set and the raw Parquet file that it was made of, and its rows."""
    root = tmp_path_factory.mktemp("typed")
    (root / "typed.yaml").write_text(TYPED)
    raw = pl.DataFrame(
        {
            "clicked": [0, 1] * (ROWS // 2),
            "shop": pl.Series([i % 7 for i in range(ROWS)], dtype=pl.Int32),
            "color": pl.Series([i % 3 for i in range(ROWS)], dtype=pl.Int32),
            "price": pl.Series([i / 4 for i in range(ROWS)], dtype=pl.Float32),
        }
    )
    raw.write_parquet(root / "raw.parquet")
    data_pipelines.prepare(str(root / "typed.yaml"), [root / "raw.parquet"], root / "dataset")
    return root, raw


@pytest.fixture
def place(workplace):
    return workplace("dcn_v2")


@pytest.fixture
def manifest_of(monkeypatch):
    """Lets a data set's schema stand for an export's manifest: it has the same features."""
    monkeypatch.setattr("recsys.cli.verification.load_manifest", load_schema)


def test_a_data_set_its_splits_and_their_files_are_encoded(place):
    for data in (place.dataset, place.dataset / "test", *place.dataset.glob("test/*.parquet")):
        assert is_encoded(place.export, data)
    assert not is_encoded(place.export, place.raw)


def test_a_copy_of_encoded_rows_of_a_text_data_set_is_encoded_whatever_its_name(place, tmp_path):
    copy = shutil.copy(next(place.dataset.glob("test/*.parquet")), tmp_path / "rows.csv")
    assert is_encoded(place.export, copy)
    assert [p.passed for p in verify(place.export, copy)] == [True] * 4


def test_text_is_raw_whatever_its_name_and_place(place, tmp_path):
    named = shutil.copy(place.raw, tmp_path / "rows.parquet")
    assert not is_encoded(place.export, named)
    within = shutil.copytree(place.dataset, tmp_path / "dataset") / "rows.parquet"
    shutil.copy(place.raw, within)
    assert not is_encoded(place.export, within)


@pytest.mark.usefixtures("manifest_of")
def test_a_raw_parquet_file_is_never_read_as_encoded(parquet_place, tmp_path):
    root, raw = parquet_place
    texts = raw.with_columns(shop=pl.col("shop").cast(pl.String))
    texts.write_parquet(tmp_path / "raw.parquet")
    assert not is_encoded(root / "dataset", tmp_path / "raw.parquet")
    raw.with_columns(shop=pl.col("shop").cast(pl.Int64)).write_parquet(tmp_path / "wide.parquet")
    assert not is_encoded(root / "dataset", tmp_path / "wide.parquet")


@pytest.mark.usefixtures("manifest_of")
def test_a_file_that_may_be_both_needs_the_option(parquet_place):
    root, _ = parquet_place
    with pytest.raises(RecsysError, match=r"(?s)may hold raw values or encoded ids.*--raw"):
        is_encoded(root / "dataset", root / "raw.parquet")
    assert is_encoded(root / "dataset", next((root / "dataset/test").glob("*.parquet")))


def test_the_option_wins_and_wrong_types_are_refused(place, tmp_path):
    raw = pl.read_csv(place.raw, infer_schema=False)
    raw.write_parquet(tmp_path / "raw.parquet")
    with pytest.raises(RecsysError, match=r"(?s)'\w+' does not hold encoded values|no column"):
        verify(place.export, tmp_path / "raw.parquet", encoded=True)
    test_rows = next(place.dataset.glob("test/*.parquet"))
    wide = pl.read_parquet(test_rows).with_columns(pl.col("color").cast(pl.Int64))
    wide.write_parquet(tmp_path / "wide.parquet")
    with pytest.raises(RecsysError, match="'color' does not hold encoded values"):
        verify(place.export, tmp_path / "wide.parquet", encoded=True)
    parity = verify(place.export, place.raw, encoded=False)
    assert [p.rows for p in parity[:2]] == [300, 300]


def test_data_that_is_not_there_is_named(place, tmp_path):
    with pytest.raises(RecsysError, match="data not found"):
        verify(place.export, tmp_path / "nothing.parquet")


def test_a_path_to_something_else_is_named_for_what_it_is(place, tmp_path):
    def refuses(match, export=place.export, data=place.dataset, **options):
        with pytest.raises(RecsysError, match=f"(?s){match}"):
            verify(export, data, **options)

    run_dir = place.trained.run_dir
    refuses("is not an export.*got: +a run folder.*recsys export RUN", export=run_dir)
    refuses("is not an export.*got: +a dataset folder", export=place.dataset)
    refuses("is not an export.*got: +a path that does not exist", export=tmp_path / "nothing")
    refuses("is not a run folder.*got: +an export.*leave --run out", run_dir=place.export)
    refuses("no rows to score.*got: +an export", data=place.export)
    refuses("no rows to score.*got: +a run folder", data=run_dir)
    refuses("no rows to score.*got: +an empty folder", data=tmp_path, encoded=True)
    refuses("no raw file found.*read as raw rows of 'shop'", data=tmp_path)
    (tmp_path / "notes.txt").write_text("hello world")
    refuses("notes.txt was read as raw rows of 'shop'", data=tmp_path / "notes.txt")
    refuses("no rows to score.*a folder of other files", data=tmp_path, encoded=True)
