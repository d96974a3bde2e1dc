"""libsvm, libFM and libffm lines: their columns, and no entry is lost silently."""

import gzip

import polars as pl
import pytest

from data_pipelines import read_raw
from data_pipelines.rules.columns import SequenceColumns
from data_pipelines.rules.files import FileFormat
from data_pipelines.sources.table import read_table, table_columns
from recsys.errors import RecsysError

FIELDS = "1 0:3:1 1:17:1 2:5:0.5\n0 0:4:1 1:18:1 1:19:1\n\t1  0:3:1 2:5:-2e3 # comment\r\n"
INDICES = "+1 3:1 17:1 40:1\n-1 4:1 17:1 41:1.0\n"


def written(folder, text):
    path = folder / "rows.txt"
    path.write_bytes(text.encode())
    return path


def columns_of(path, **file):
    return table_columns(path, FileFormat(format="libsvm", **file), "label")


def read(path, dtypes, lists=(), **file):
    file = FileFormat(format="libsvm", **file)
    columns = table_columns(path, file, "label")
    kinds = {"text": pl.String(), "number": pl.Float64()}
    frames = read_table(
        path,
        file,
        columns,
        {name: kinds[kind] for name, kind in dtypes.items()},
        SequenceColumns(columns=lists),
    )
    return pl.concat([frame for _, frame in frames])


def refusal(call, *words):
    with pytest.raises(RecsysError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.fixture(params=[32 << 20, 10], ids=["whole", "blocks"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", request.param)


@pytest.mark.parametrize("slice_rows", [1 << 16, 1, 2])
def test_a_field_is_a_column_of_tokens_lists_or_numbers(tmp_path, monkeypatch, slice_rows):
    path = written(tmp_path, FIELDS)
    monkeypatch.setattr("data_pipelines.reading.libsvm.SLICE_ROWS", slice_rows)
    file = {"columns": ["label", "field_0", "field_1", "field_2"]}
    dtypes = {"label": "text", "field_0": "text", "field_1": "text", "field_2": "number"}
    frame = read(path, dtypes, lists=["field_1"], **file)
    assert frame.rows() == [
        ("1", "3", ["17"], 0.5),
        ("0", "4", ["18", "19"], None),
        ("1", "3", [], -2000.0),
    ]


def test_the_columns_are_those_of_the_first_rows(tmp_path):
    path = written(tmp_path, FIELDS)
    assert columns_of(path) == ["label", "field_0", "field_1", "field_2"]
    path = written(tmp_path, INDICES)
    entries = ["entry_1", "entry_2", "entry_3"]
    indices = [f"index_{n}" for n in (3, 4, 17, 40, 41)]
    assert columns_of(path) == ["label", "indices", *entries, *indices]
    assert columns_of(written(tmp_path, "1 qid:7 3:1\n0 qid:8\n")) == [
        *("label", "qid", "indices", "index_3")
    ]
    assert columns_of(written(tmp_path, "3:1 4:1\n")) == [
        *("indices", "entry_1", "entry_2", "index_3", "index_4")
    ]


@pytest.mark.usefixtures("_blocks")
def test_lines_without_fields_have_entries_lists_and_numbers(tmp_path):
    path = written(tmp_path, INDICES)
    names = ["label", "indices", "entry_1", "entry_3", "index_17", "index_40"]
    dtypes = {name: "number" if "index" in name else "text" for name in names}
    dtypes["entry_1"] = "text"
    frame = read(
        path, dtypes, lists=["indices"], columns=[*names, "index_3", "index_4", "index_41"]
    )
    assert frame.rows() == [
        ("+1", ["3", "17", "40"], "3", "40", 1.0, 1.0),
        ("-1", ["4", "17", "41"], "4", "41", 1.0, None),
    ]


def test_qids_are_a_column(tmp_path):
    path = written(tmp_path, "1 qid:7 3:1 4:1\n0 qid:8 5:1 6:1\n")
    frame = read(path, {"qid": "text", "entry_1": "text", "label": "text"})
    assert frame.rows() == [("7", "3", "1"), ("8", "5", "0")]


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 0:3:1 x", ["data row 3", "'x'", "field:index:value"]),
        ("1 3:1", ["data row 3", "'3:1'"]),
        ("1 0:-3:1", ["data row 3", "'0:-3:1'"]),
        ("1 0:3:nan", ["data row 3", "'0:3:nan'"]),
        ("1 0:3:1:4", ["data row 3", "'0:3:1:4'"]),
        ("1 0:3:", ["data row 3", "'0:3:'"]),
        ("", ["data row 3", "empty"]),
        ("1 0:3:0.5", ["data row 3", "field_0 is not 1", "0:3:0.5", "numerical.columns"]),
        ("1 0:3:1 0:4:1", ["data row 3", "field_0 has several values", "sequence.columns"]),
        ("1 0:3:1 9:4:1", ["data row 3", "field_9", "file.columns"]),
        ("1 2:5:1 2:5:2", ["data row 3", "field_2 has several values"]),
        ("1 0:3:1 2:6:1\n0 2:5:1", ["data row 4", "field_2", "several indices"]),
    ],
)
def test_an_entry_that_does_not_fit_is_named_with_its_row(tmp_path, line, words):
    path = written(tmp_path, f"1 0:3:1\n0 0:4:1\n{line}\n0 0:3:1\n")
    dtypes = {"label": "text", "field_0": "text", "field_2": "number"}
    refusal(lambda: read(path, dtypes, columns=["label", "field_0", "field_2"]), *words)


def test_entry_columns_need_rows_of_one_length(tmp_path):
    path = written(tmp_path, "1 3:1 4:1\n0 5:1\n")
    assert columns_of(path) == ["label", "indices", "index_3", "index_4", "index_5"]
    file = {"columns": ["label", "indices", "entry_1"]}
    refusal(lambda: read(path, {"entry_1": "text"}, **file), "data row 2", "2 entries", "indices")


def test_a_wide_file_has_no_column_for_each_index(tmp_path):
    path = written(tmp_path, "".join(f"1 {n}:1\n" for n in range(1001)))
    assert columns_of(path) == ["label", "indices", "entry_1"]


def test_an_empty_file_and_other_files_are_refused(tmp_path):
    refusal(lambda: columns_of(written(tmp_path, "")), "empty")
    refusal(
        lambda: columns_of(written(tmp_path, "label,x\n1,2\n")),
        "data row 1",
        "'label,x'",
        "index:value",
    )


def test_prepare_and_scoring_read_libffm_lines(tmp_path, shop, table):
    colours = {None: None, "red": 3, "blue": 4, "green": 5, "black": 6}
    lines = []
    for row in table.iter_rows(named=True):
        words = [str(row["bought"])]
        words += [] if row["price"] is None else [f"0:0:{row['price']}"]
        words += [] if row["colour"] is None else [f"1:{colours[row['colour']]}:1"]
        words += [f"2:{'abcdz'.index(tag)}:1" for tag in (row["tags"] or "").split("|") if tag]
        lines.append(" ".join(words))
    path = tmp_path / "rows.ffm"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    schema = shop.prepare(
        *("file.format=libffm", "label.column=label", "group=null", "numerical.columns=[field_0]"),
        *("categorical.columns=[field_1]", "sequence.columns=[field_2]"),
        raw=[path],
    )
    assert shop.column("field_0") == [1.0, 2.0, 3.0, 4.0, 0.0, 6.0]
    assert shop.vocabulary("field_1") == [("3", 1, 3), ("4", 2, 2), ("5", 3, 1)]
    assert shop.column("field_2") == [[1, 2], [1], [], [2, 1, 3], [1], [2]]
    raw = pl.concat(read_raw(schema, [path]))
    assert raw["field_2"].to_list()[:3] == [["0", "1"], ["0"], []]
