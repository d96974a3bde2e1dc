"""Text files: encodings, compression, line ends, quotes, headers. No row may be lost."""

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import os
import zipfile

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines import read_raw
from data_pipelines.reading.csv_tables import read_text, text_columns
from data_pipelines.reading.files import expand_paths
from data_pipelines.reading.text import read_blocks
from data_pipelines.rules.columns import SequenceColumns
from data_pipelines.rules.files import FileFormat
from data_pipelines.sources.table import read_table, table_columns
from recsys.config.base import validate
from recsys.errors import RecsysError

CITIES = ["Orléans", "Zürich", "Łódź", "東京", "", "Paris", 'the "city"', "a,b", "c\nd", "end"]
LATIN = ["Orléans", "Zürich", "Málaga", "Århus", "", "Paris", 'the "city"', "a,b", "c\nd", "end"]


def frame_of(cities=CITIES):
    return pl.DataFrame({"label": [0, 1] * 5, "city": cities, "n": range(10)})


def text_of(cities=CITIES):
    return frame_of(cities).write_csv()


@pytest.fixture(params=[32 << 20, 7], ids=["whole", "blocks"])
def block_bytes(request, monkeypatch):
    """Files read at once, and in blocks that are shorter than a row."""
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", request.param)
    monkeypatch.setattr("data_pipelines.reading.text.HEAD_BYTES", request.param)


def rows_of(path, **file):
    file = FileFormat(**file)
    columns = text_columns(path, file, "label")
    frames = read_text(path, file, columns, dict.fromkeys(columns, pl.String()))
    return [row for _, frame in frames for row in frame.rows()]


def expected(cities=CITIES):
    return [(str(i % 2), city or None, str(i)) for i, city in enumerate(cities)]


def written(folder, content, name="rows.csv"):
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(call, *words):
    with pytest.raises(RecsysError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize(
    ("codec", "given", "cities"),
    [
        ("utf-8", "utf-8", CITIES),
        ("utf-8-sig", "utf-8", CITIES),
        ("utf-8-sig", "latin-1", CITIES),  # the mark takes precedence
        ("utf-16", "utf-8", CITIES),  # with a mark
        ("utf-16", "utf-16", CITIES),
        ("utf-16-le", "utf-16-le", CITIES),
        ("utf-16-be", "UTF-16BE", CITIES),
        ("utf-32", "utf-8", CITIES),
        ("latin-1", "latin-1", LATIN),
        ("cp1252", "Windows-1252", LATIN),
        ("gb18030", "gb18030", CITIES),
    ],
)
def test_every_encoding_gives_the_same_rows(tmp_path, codec, given, cities):
    path = written(tmp_path, text_of(cities).encode(codec))
    assert rows_of(path, encoding=given) == expected(cities)


def test_a_byte_order_mark_is_not_part_of_the_first_value(tmp_path):
    path = written(tmp_path, b"\xef\xbb\xbf1,a\n0,b\n")
    assert rows_of(path, header=False, columns=["label", "x"]) == [("1", "a"), ("0", "b")]


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize(
    ("content", "encoding", "words"),
    [
        (b"label,x\n1,a\n0,Orl\xe9ans\n", "utf-8", ["rows.csv, line 3, byte 17", "0xe9"]),
        (b"label,x\xe9\n1,a\n", "utf-8", ["line 1, byte 7", "0xe9"]),
        (b"\xef\xbb\xbflabel,x\n1,\xff\n", "utf-8", ["line 2, byte 13", "0xff"]),
        (b"label,x\n1,caf\xc3", "utf-8", ["line 2, byte 13", "0xc3"]),
        (b"label,x\n1,\x81\n", "cp1252", ["line 2, byte 10", "0x81"]),
        (
            "label,x\n1,a\n".encode("utf-16") + b"\x00\xd8",
            "utf-8",
            ["line 3, byte 26", "utf-16-le"],
        ),
    ],
)
def test_invalid_bytes_are_named_with_line_and_byte(tmp_path, content, encoding, words):
    path = written(tmp_path, content)
    refusal(lambda: rows_of(path, encoding=encoding), "file.encoding", *words)


def test_utf16_without_a_mark_needs_its_byte_order(tmp_path):
    path = written(tmp_path, text_of().encode("utf-16-le"))
    refusal(lambda: rows_of(path, encoding="utf-16"), "byte order mark", "utf-16-le")
    refusal(lambda: rows_of(path), "NUL", "utf-16-le")


@pytest.mark.parametrize("name", ["utf-9", "rot13", "hex", "idna", "../x", "", "a" * 99, "\0"])
def test_an_unknown_encoding_is_refused(name):
    refusal(lambda: validate(FileFormat, {"encoding": name}, "recipe"), "encoding", "latin-1")


def with_arrow(codec):
    def compress(content):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()

    return compress


COMPRESS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": with_arrow("zstd"),
    "lz4": with_arrow("lz4"),
}


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("kind", COMPRESS)
def test_compression_is_detected_by_its_bytes_in_any_number_of_members(tmp_path, kind):
    text, compress = text_of().encode(), COMPRESS[kind]
    members = b"".join(compress(part) for part in (text[:20], text[20:21], text[21:]))
    assert rows_of(written(tmp_path, compress(text))) == expected()
    assert rows_of(written(tmp_path, members)) == expected()


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "second member cut", "followed by other bytes"])
def test_a_damaged_stream_is_one_message(tmp_path, kind, damage):
    whole = COMPRESS[kind](text_of().encode())
    content = {
        "cut": whole[:-9],
        "second member cut": whole + whole[:-9],
        "followed by other bytes": whole + b"not compressed at all",
    }[damage]
    path = written(tmp_path, content)
    refusal(lambda: rows_of(path), f"the {kind} file is truncated or damaged", "rows.csv")


def zipped(folder, members):
    path = folder / "rows.csv"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_of_one_file_is_read(tmp_path):
    members = {"data/": "", "data/x.csv": text_of(), "__MACOSX/data/._x.csv": "Mac"}
    assert rows_of(zipped(tmp_path, members)) == expected()


def test_other_zips_are_refused(tmp_path):
    members = {"x.csv": text_of(), "y.csv": text_of()}
    refusal(lambda: rows_of(zipped(tmp_path, members)), "exactly one", "2 files: x.csv, y.csv")
    refusal(lambda: rows_of(zipped(tmp_path, {})), "exactly one", "0 files")
    path = zipped(tmp_path, {"x.csv": text_of()})
    path.write_bytes(path.read_bytes()[:-30])
    refusal(lambda: rows_of(path), "the zip file is truncated or damaged")
    path = zipped(tmp_path, {"x.csv": text_of()})
    path.write_bytes(path.read_bytes().replace(b"\x00\x00\x00\x08\x00", b"\x00\x01\x00\x08\x00"))
    refusal(lambda: rows_of(path), "zip")


def test_a_zip_with_a_hole_is_one_message(tmp_path):
    path = zipped(tmp_path, {"x.csv": text_of()})
    path.write_bytes(path.read_bytes()[:30] + path.read_bytes()[70:])  # offsets before its start
    refusal(lambda: rows_of(path), "the zip file is truncated or damaged")


def test_archives_and_double_compression_are_refused(tmp_path):
    tar = b"\0" * 257 + b"ustar" + b"\0" * 250
    twice = gzip.compress(bz2.compress(b"label\n1\n"))
    for content, words in (
        (gzip.compress(tar), ["tar file inside gzip", "extract"]),
        (tar, ["tar file", "extract"]),
        (twice, ["bzip2 file inside gzip", "extract"]),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", ["7z file", "extract"]),
    ):
        path = written(tmp_path, content)
        refusal(lambda path=path: rows_of(path), *words)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("tail", ["", "1", "4"])
def test_line_ends_and_trailing_blank_lines_change_no_row(tmp_path, end, tail):
    cities = [city.replace("\n", " ") for city in CITIES]
    text = text_of(cities).removesuffix("\n") + "\n" * int(tail or 0)
    path = written(tmp_path, text.replace("\n", end).encode())
    assert rows_of(path) == expected(cities)


@pytest.mark.usefixtures("block_bytes")
def test_a_blank_line_between_rows_is_named(tmp_path):
    path = written(tmp_path, b"label,x\n1,a\n\n0,b\n\n")
    refusal(lambda: rows_of(path), "data row 2", "an empty line")


def test_a_blank_line_of_one_column_is_a_missing_value(tmp_path):
    path = written(tmp_path, b"x\na\n\nb\n\n")
    assert rows_of(path) == [("a",), (None,), ("b",), (None,)]


@pytest.mark.usefixtures("block_bytes")
def test_rows_are_counted_after_quoted_newlines(tmp_path):
    path = written(tmp_path, b'label,x,n\n1,"a\nb\nc",2\n0,"d",3\n1,e\n')
    refusal(lambda: rows_of(path), "wrong number of columns", "data row 3")


@pytest.mark.usefixtures("block_bytes")
def test_a_header_may_hold_quoted_newlines(tmp_path):
    path = written(tmp_path, b'"la\nbel","x,y"\n1,a\n')
    assert text_columns(path, FileFormat(), "label") == ["la\nbel", "x,y"]
    assert rows_of(path) == [("1", "a")]


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize(
    ("rows", "row"),
    [
        ('1,5" pipe\n0,b\n', 1),
        ('1,a\n0,5" pipe\n1,6" pipe\n0,b\n', 2),
        ('1,"a"\n0,"b\n1,c\n', 2),
        ('1,"a"\n0,"b"x\n1,c\n', 2),
        ('1,"a\nb"\n0,"c""d"\n1,say "hi, you" now\n', 3),
        ('1,a\n0, "b,c"\n', 2),
        ('1,a\n0,"', 2),
        ('1,x"a""b,c"\n', 1),
    ],
)
def test_a_stray_quote_is_named_with_its_row(tmp_path, rows, row):
    path = written(tmp_path, b"label,x\n" + rows.encode())
    refusal(lambda: rows_of(path), "quote", f"data row {row}", "file.quote=null")


PIECES = ["a", "é", '"', '""', ",", "\n", "\r\n", " ", '",', '\n"', ',"']
FUZZ = settings(max_examples=100, deadline=None, database=None, derandomize=True)
SIZES = st.sampled_from([1, 3, 7, 32 << 20])
VALUES = st.lists(st.sampled_from([*PIECES, "\r"]), max_size=4).map("".join)


@FUZZ
@given(
    st.lists(st.tuples(VALUES, VALUES)),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    SIZES,
)
def test_whatever_a_csv_writer_quotes_is_read_back(tmp_path_factory, rows, end, codec, size):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=end).writerows([("x", "y"), *rows])
    path = written(tmp_path_factory.getbasetemp(), text.getvalue().encode(codec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipelines.reading.text.BLOCK_BYTES", size)
        assert rows_of(path) == [tuple(value or None for value in row) for row in rows]


@FUZZ
@given(st.lists(st.sampled_from(PIECES), max_size=14), st.sampled_from(['"', None]), SIZES)
def test_any_text_is_read_as_by_the_csv_module_or_refused(tmp_path_factory, pieces, quote, size):
    text = "x,y\n" + "".join(pieces)
    path = written(tmp_path_factory.getbasetemp(), text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipelines.reading.text.BLOCK_BYTES", size)
        try:
            found = rows_of(path, quote=quote)
        except RecsysError:
            return
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    lines = csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), strict=True, quoting=quoting)
    assert found == [tuple(value or None for value in row) for row in [*lines][1:]]


ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("x.csv", text_of())
FILES = [
    text_of().encode("utf-16"),
    ZIPPED.getvalue(),
    *(compress(text_of().encode()) for compress in COMPRESS.values()),
    b"1 0:3:1 1:17:1 2:5:0.5\n0 0:4:1 1:18:1 1:19:1\n" * 9,
]
CUTS = st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=4))


@FUZZ
@given(st.sampled_from(FILES), st.lists(CUTS, min_size=1, max_size=3), st.sampled_from('",'), SIZES)
def test_a_changed_file_is_read_or_refused(tmp_path_factory, content, cuts, quote, size):
    for place, length, new in cuts:
        at = int(place * len(content))
        content = content[:at] + new + content[at + length :]
    path = written(tmp_path_factory.getbasetemp(), content)
    form = "libsvm" if content[:2] == b"1 " else "text"
    file = FileFormat(format=form, quote=None if quote == "," else quote)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(RecsysError):
        patch.setattr("data_pipelines.reading.text.BLOCK_BYTES", size)
        columns = table_columns(path, file, "label")
        dtypes = dict.fromkeys(columns[:3], pl.String())
        rows = [frame for _, frame in read_table(path, file, columns, dtypes, SequenceColumns())]
        assert all(frame.columns == list(dtypes) for frame in rows)


@pytest.mark.usefixtures("block_bytes")
def test_quotes_in_pairs_inside_a_plain_value_are_kept(tmp_path):
    path = written(tmp_path, b'label,x\n1,say "hi" now\n0,x"y""z"\n1,"a ""b"""\n0,""\n')
    assert [value for _, value in rows_of(path)] == ['say "hi" now', 'x"y""z"', 'a "b"', None]
    path = written(tmp_path, b'label,x\n1,5" pipe\n0,6" pipe\n')
    assert [value for _, value in rows_of(path, quote=None)] == ['5" pipe', '6" pipe']


def test_a_row_without_an_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", 100)
    monkeypatch.setattr("data_pipelines.reading.text.MAX_ROW_BYTES", 300)
    path = written(tmp_path, b'label,x\n1,"a\n' + b"0,b\n" * 1000)
    refusal(lambda: list(read_blocks(path, FileFormat())), "no closing quote", "data row 1", '1,"a')
    path = written(tmp_path, b"label,x\n1," + b"a" * 1000)
    refusal(lambda: list(read_blocks(path, FileFormat())), "too long", "data row 1", "300 bytes")


@pytest.mark.parametrize("text", [b"", b"\xef\xbb\xbf", b"\n\n\n", gzip.compress(b"", mtime=0)])
def test_a_file_without_text_is_refused(tmp_path, text):
    refusal(lambda: rows_of(written(tmp_path, text)), "empty", "rows.csv")


ROWS = b"".join(b"%d,%d\n" % (i % 2, i) for i in range(10))


def test_column_names_need_the_key_header(tmp_path):
    path = written(tmp_path, ROWS)
    names = {"columns": ["label", "x"]}
    refusal(lambda: rows_of(path, **names), "file.columns", "header: true", "header: false")
    assert len(rows_of(path, header=False, **names)) == 10
    path = written(tmp_path, b"clicked,number\n" + ROWS)
    assert len(rows_of(path, header=True, **names)) == 10
    assert text_columns(path, FileFormat(header=True, **names), "label") == ["label", "x"]
    refusal(lambda: rows_of(path, header=False), "set file.columns")


def test_columns_without_a_name_get_one(tmp_path):
    path = written(tmp_path, b",label,\n0,1,a\n1,0,b\n")
    assert text_columns(path, FileFormat(), "label") == ["unnamed_1", "label", "unnamed_3"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_in_the_header_is_named(tmp_path, separator):
    path = written(tmp_path, text_of(["x"] * 10).replace(",", separator).encode())
    refusal(lambda: rows_of(path), "','", f"file.separator={separator!r}")
    refusal(
        lambda: rows_of(path, header=False, columns=["label", "city", "n"]),
        "wrong number of columns",
        f"file.separator={separator!r}",
    )


@pytest.mark.parametrize(
    "file",
    [{"separator": "é"}, {"separator": "\n"}, {"quote": ""}, {"quote": "''"}, {"quote": ","}],
)
def test_separator_and_quote_are_one_ascii_character_each(file):
    refusal(lambda: validate(FileFormat, file, "recipe"), "recipe")


def test_names_that_look_like_patterns_are_names(tmp_path):
    path = written(tmp_path, b"label,*,^a.*$,a.b\n1,x,y,z\n")
    assert rows_of(path) == [("1", "x", "y", "z")]


HUGE = b"label,x\n1,2.5\n0,-1e300\n1,1e39\n0,inf\n1,NaN\n0,\n"


def test_numbers_beyond_float32_are_refused_or_clipped(shop):
    path = written(shop.folder, HUGE, "huge.csv")
    table = ["label.column=label", "numerical.columns=[x]", "categorical.columns=[]"]
    table += ["sequence.columns=[]", "group=null", "split.fractions=[0.4, 0.3, 0.3]"]
    refusal(lambda: shop.prepare(*table, raw=[path]), "'x'", "data row 2", "-1e+300", "float32")
    schema = shop.prepare(*table, "numerical.out_of_range=clip", raw=[path])
    largest = 3.4028234663852886e38
    assert shop.column("x") == [2.5, -largest]
    expected = [2.5, -largest, largest, largest, None, None]
    assert pl.concat(read_raw(schema, [path]))["x"].to_list() == expected


def test_a_pipe_is_not_a_raw_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refusal(lambda: expand_paths([tmp_path / "pipe"]), "not a regular file")


def test_prepare_and_scoring_read_the_same_from_latin1_in_bzip2(shop, table):
    colours = table["colour"].str.replace("black", "blåck")
    plain = table.with_columns(colours).write_csv()
    shop.csv.write_text(plain)
    expected = shop.prepare()
    shop.csv.write_bytes(bz2.compress(plain.encode("latin-1")))
    schema = shop.prepare("file.encoding=latin-1", out=shop.folder / "packed")
    assert schema.splits == expected.splits
    read = pl.concat(read_raw(schema, [shop.csv]))
    assert read["colour"].to_list() == colours.to_list()
