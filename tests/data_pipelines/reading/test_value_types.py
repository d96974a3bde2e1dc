"""Equal values have equal tokens, whatever the type of their column: in all splits and serving."""

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import data_pipelines
from data_pipelines.encoding.labels import label_values
from data_pipelines.encoding.staging import group_ids
from data_pipelines.reading.arrow_values import canonical_frame, check_arrow_types
from data_pipelines.reading.times import order_times
from data_pipelines.rules.columns import Label
from recsys.errors import RecsysError
from recsys.schema import load_schema
from recsys.serving.encoders import RawEncoder
from recsys.serving.raw_values import to_numbers, to_token_lists, to_tokens
from tests.data_pipelines.reading.value_types import CASES, REFUSED, documented_table

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.type} {c.value}"[:60])


def column(case, name="x") -> pl.Series:
    batch = pa.table({name: pa.array([case.value, None], case.type)})
    return pl.DataFrame(pl.from_arrow(batch))[name]


def canonical(values, dtype, sequences, tmp_path):
    return canonical_frame(values.to_frame(), {values.name: dtype}, sequences, tmp_path)[
        values.name
    ]


@each_case
def test_a_value_has_one_token_whatever_its_type(case, tmp_path):
    values = column(case)
    if case.token == REFUSED:
        with pytest.raises(RecsysError, match=r"text column 'x' has an unsupported type"):
            canonical(values, pl.String(), set(), tmp_path)
        with pytest.raises(RecsysError, match="type"):
            to_tokens(values, "x")
        return
    assert canonical(values, pl.String(), set(), tmp_path).to_list() == [case.token, None]
    assert to_tokens(values, "x").to_list() == [case.token, None]


@each_case
def test_a_value_has_one_number_whatever_its_type(case, tmp_path):
    values = column(case)
    if case.number == REFUSED:
        with pytest.raises(RecsysError, match=r"numerical column 'x' has an unsupported type"):
            canonical(values, pl.Float64(), set(), tmp_path)
        with pytest.raises(RecsysError, match="type"):
            to_numbers(values, "x")
        return
    assert canonical(values, pl.Float64(), set(), tmp_path).to_list() == [case.number, None]
    assert to_numbers(values, "x").to_list() == [case.number, None]


@each_case
def test_the_items_of_a_list_have_the_tokens_of_their_type(case, tmp_path):
    batch = pa.table({"x": pa.array([[case.value, None], [], None], pa.list_(case.type))})
    values = pl.DataFrame(pl.from_arrow(batch))["x"]
    if case.token == REFUSED:
        with pytest.raises(RecsysError, match=r"'x'(.|\n)*sequence|'x'(.|\n)*type"):
            canonical(values, pl.String(), {"x"}, tmp_path)
        return
    expected = [[case.token, None], [], []]
    assert canonical(values, pl.String(), {"x"}, tmp_path).to_list() == expected
    assert to_token_lists(values, "x", "|").to_list() == expected


@pytest.mark.parametrize(
    "type_", [pa.decimal256(50, 3), pa.list_view(pa.int32()), pa.month_day_nano_interval()]
)
def test_unsupported_types_are_refused_by_name(type_, tmp_path):
    with pytest.raises(RecsysError, match="'x' has an unsupported type"):
        check_arrow_types(pa.schema([("x", type_)]), tmp_path)


def test_an_invalid_number_is_named_with_its_row(tmp_path):
    values = pl.Series("x", ["1", "2", "three", "4"])
    with pytest.raises(RecsysError, match=r"'x'(.|\n)*data row 3(.|\n)*'three'"):
        canonical(values, pl.Float64(), set(), tmp_path)


def test_bytes_that_are_not_text_are_named_with_their_row(tmp_path):
    values = pl.Series("x", [b"a", b"\xff"])
    with pytest.raises(RecsysError, match=r"'x'(.|\n)*data row 2"):
        canonical(values, pl.String(), set(), tmp_path)


@each_case
def test_a_time_column_may_have_numbers_and_times_of_any_type(case, tmp_path):
    if case.token is None or case.token == REFUSED:
        return
    texts = canonical(column(case), pl.String(), set(), tmp_path)[:1]
    if case.number == REFUSED:
        with pytest.raises(RecsysError, match="invalid number or date"):
            order_times(texts, "s", tmp_path)
        return
    assert order_times(texts, "s", tmp_path).to_list() == [case.number]


@each_case
def test_a_label_is_compared_by_its_token(case, tmp_path):
    if case.token is None or case.token == REFUSED:
        return
    label = Label(column="x", rule={"kind": "one_of", "positive": [case.token], "negative": ["-"]})
    frame = canonical(column(case), pl.String(), set(), tmp_path)[:1].to_frame()
    assert label_values(frame, label, tmp_path, 1).to_list() == [1]


@each_case
def test_a_group_is_that_of_its_token(case, tmp_path):
    if case.token == REFUSED:
        return
    groups = group_ids(canonical(column(case), pl.String(), set(), tmp_path)).to_list()
    assert groups == group_ids(pl.Series([case.token, None], dtype=pl.String)).to_list()
    assert (groups[0] > 0, groups[1]) == (case.token is not None, 0)


def test_the_documentation_has_this_table(pytestconfig):
    readme = (pytestconfig.rootpath / "docs/data_contract.md").read_text()
    assert documented_table() in readme


RECIPE = """
file: {format: parquet}
label: {column: label}
numerical: {columns: [n]}
categorical: {columns: [id, when]}
sequence: {columns: [tags], separator: "|"}
min_count: 1
split: {method: given_files}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The same values in columns of other types in each split."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "recipe.yaml").write_text(RECIPE)
    moments = [f"2020-01-0{1 + i % 3} 00:00:00" for i in range(12)]
    stamps = pl.Series(moments).str.to_datetime()
    tags = [["Children|Comedy", "Drama"], ["Drama", None, "War"], [], None, [None], ["", "War"]] * 2
    types = {
        "train": (pl.Int64, "us"),
        "valid": (pl.Float64, "ns"),
        "test": (pl.UInt8, "ms"),
    }
    for split, (integer, unit) in types.items():
        frame = pl.DataFrame(
            {
                "label": [i % 2 for i in range(12)],
                "n": pl.Series([i % 5 for i in range(12)]).cast(integer),
                "id": pl.Series([i % 4 if i else None for i in range(12)]).cast(integer),
                "when": stamps.dt.cast_time_unit(unit),
                "tags": pl.Series(tags, dtype=pl.List(pl.String)),
            }
        )
        pq.write_table(frame.to_arrow(), folder / f"{split}.parquet")
    raw = [folder / f"{split}.parquet" for split in types]
    data_pipelines.prepare(str(folder / "recipe.yaml"), raw, folder / "out")
    return folder


def test_splits_of_other_types_get_the_same_ids(dataset):
    parts = [
        pl.read_parquet(dataset / f"out/{split}/part-00000.parquet")
        for split in ("train", "valid", "test")
    ]
    assert parts[0].equals(parts[1])
    assert parts[0].equals(parts[2])
    assert (parts[0]["id"].to_numpy() > 0).sum() == 11


def test_list_items_stay_whole_and_null_and_empty_items_are_missing(dataset):
    vocabulary = pl.read_parquet(dataset / "out/vocabularies/tags.parquet")
    assert set(vocabulary["value"]) == {"Children|Comedy", "Drama", "War"}
    rows = pl.read_parquet(dataset / "out/train/part-00000.parquet")["tags"].to_list()
    assert [len(row) for row in rows[:6]] == [2, 3, 0, 0, 1, 2]
    assert rows[4] == [0]
    assert rows[5][0] == 0


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_serving_encodes_the_raw_frame_of_any_split_equally(dataset, split):
    schema = load_schema(dataset / "out")
    raw = pl.read_parquet(dataset / f"{split}.parquet")
    encoded = RawEncoder(schema.features, dataset / "out").encode(raw)
    expected = pl.read_parquet(dataset / f"out/{split}/part-00000.parquet")
    for feature in schema.features:
        assert encoded[feature.name].to_list() == expected[feature.name].to_list()


ODD_NAMES = [
    "../evil",
    "cat[0]",
    "a*b",
    "Cat",
    "cat",
    "^c.*$",
    "*",
    "日本",
    "n" * 300,
    "a b",
    "con",
]


def test_columns_may_have_any_name(tmp_path):
    rows = {name: [f"v{(i + k) % 5}" for i in range(60)] for k, name in enumerate(ODD_NAMES)}
    frame = pl.DataFrame({"^label": [i % 2 for i in range(60)], **rows})
    frame.write_csv(tmp_path / "rows.csv")
    columns = ", ".join(f"'{name.replace('[', '[[]')}'" for name in ODD_NAMES)
    recipe = f"label: {{column: '^label'}}\ncategorical: {{columns: [{columns}]}}\nmin_count: 1\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    folder = tmp_path / "folder[1]"
    schema = data_pipelines.prepare(
        str(tmp_path / "recipe.yaml"), [tmp_path / "rows.csv"], folder / "out"
    )
    assert {f.name for f in schema.features} == set(ODD_NAMES)
    files = [f.encoding.file for f in schema.features]
    assert len({file.casefold() for file in files}) == len(ODD_NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "folder[1]",
        "recipe.yaml",
        "rows.csv",
    ]
    raw = next(iter(data_pipelines.read_raw(schema, [tmp_path / "rows.csv"])))
    encoded = RawEncoder(schema.features, folder / "out").encode(raw)
    pipeline = data_pipelines.encode(schema, folder / "out", raw)
    for name in ODD_NAMES:
        assert encoded[name].to_list() == pipeline[name].to_list()
        assert (encoded[name].to_numpy() > 0).any()


def test_names_like_wildcards_mean_the_columns_of_these_names(tmp_path):
    """Exact names come before wildcards, in every list of names of a recipe."""
    lists = [["a|b", "c"][: i % 3] for i in range(60)]
    rows = {"label": [i % 2 for i in range(60)], "": ["x", "y"] * 30, "tags[1]": lists}
    rows |= {"n[1]": [i % 7 for i in range(60)], "n1": [i % 7 for i in range(60)]}
    names, columns = list(rows), [pa.array(values) for values in rows.values()]
    pq.write_table(pa.table(columns, names=names), tmp_path / "rows[1].parquet")
    (tmp_path / "recipe.yaml").write_text(
        "file: {format: parquet}\nmin_count: 1\ncategorical: {columns: [unnamed_2]}\n"
        "sequence: {columns: ['tags[1]']}\nnumerical: {columns: ['n[1]', n1]}\n"
        "per_feature: {'n[1]': {transform: log}}\n"
    )
    raw = [tmp_path / "rows[1].parquet"]
    schema = data_pipelines.prepare(str(tmp_path / "recipe.yaml"), raw, tmp_path / "out")
    transforms = [f.transform.kind for f in schema.features if f.transform]
    assert transforms == ["log", "keep"]
    assert schema.feature("tags[1]").cardinality == 3
    assert schema.feature("unnamed_2").cardinality == 3


def test_a_half_float_is_the_token_of_its_float32(tmp_path):
    values = pl.Series("x", [0.25, 2.0, None], dtype=pl.Float16)
    assert canonical(values, pl.String(), set(), tmp_path).to_list() == ["0.25", "2", None]
    assert to_tokens(values, "x").to_list() == ["0.25", "2", None]


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_times_far_from_1970_have_tokens(unit, tmp_path):
    texts = ["0001-01-01 00:00:00", "9999-12-31 23:59:59", "1969-12-31 23:59:59.5"]
    values = pl.Series("x", texts).str.to_datetime(time_unit=unit)
    assert canonical(values, pl.String(), set(), tmp_path).to_list() == texts
    assert to_tokens(values, "x").to_list() == texts


def test_serving_refuses_bytes_that_are_not_text():
    with pytest.raises(RecsysError, match=r"x: a raw value(.|\n)*UTF-8 text"):
        to_tokens(pl.Series("x", [b"a", b"\xff"]), "x")


LOG_RECIPE = """
file: {{format: parquet}}
events: {{user: '{0}', item: '{1}', time: '{2}', item_features: ['{3}'], histories: ['{1}']}}
categorical: {{columns: ['{1}']}}
sequence: {{columns: ['{3}']}}
min_count: 1
split: last_two_items
"""


@pytest.mark.parametrize(
    "names",
    [("user", "item", "time", "genres"), ("^u.*$", "*", "t[0]", "g*")],
    ids=["plain", "odd"],
)
def test_logs_have_columns_of_any_name_and_lists_of_whole_items(names, tmp_path):
    genres = [["a|b", "c"], ["c", None], [], ["d"]]
    items = [(7 * i) % 13 for i in range(200)]
    columns = [
        [i // 5 for i in range(200)],
        items,
        list(range(200)),
        [genres[i % 4] for i in items],
    ]
    log = tmp_path / "log.parquet"
    pq.write_table(pa.table([pa.array(c) for c in columns], names=list(names)), log)
    (tmp_path / "recipe.yaml").write_text(LOG_RECIPE.format(*names))
    schema = data_pipelines.prepare(str(tmp_path / "recipe.yaml"), [log], tmp_path / "out")
    vocabulary = pl.read_parquet(tmp_path / "out" / schema.feature(names[3]).encoding.file)
    assert set(vocabulary["value"]) == {"a|b", "c", "d"}
    raw = next(iter(data_pipelines.read_raw(schema, [log])))
    served = RawEncoder(schema.features, tmp_path / "out").encode(raw)
    prepared = data_pipelines.encode(schema, tmp_path / "out", raw)
    for feature in schema.features:
        assert served[feature.name].to_list() == prepared[feature.name].to_list()
    lengths = {len(row) for row in served[names[3]].to_list()}
    assert lengths == {0, 1, 2}
