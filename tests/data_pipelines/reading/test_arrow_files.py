"""Parquet, Arrow (IPC, Feather) and ORC give the data of text, whatever the file's name."""

import gzip

import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from data_pipelines import read_raw
from data_pipelines.reading.arrow_files import read_columns
from data_pipelines.reading.files import binary_format, head_of
from recsys.errors import RecsysError


def write_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_file(table, path):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=4)


WRITERS = {
    "parquet": (pq.write_table, "parquet"),
    "arrow file": (write_file, "arrow"),
    "arrow stream": (write_stream, "arrow"),
    "feather": (pyarrow.feather.write_feather, "feather"),
    "orc": (pyarrow.orc.write_table, "orc"),
}


@pytest.fixture
def arrow_table(table):
    return table.to_arrow(compat_level=pl.CompatLevel.oldest())


def refusal(call, *words):
    with pytest.raises(RecsysError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_data_of_text(shop, arrow_table, monkeypatch, kind):
    monkeypatch.setattr("data_pipelines.reading.arrow_files.CHUNK_ROWS", 2)
    expected = shop.prepare()
    write, file_format = WRITERS[kind]
    path = shop.folder / "rows.bin"
    write(arrow_table, str(path))
    schema = shop.prepare(f"file.format={file_format}", raw=[path], out=shop.folder / "typed")
    assert schema.splits == expected.splits
    assert pl.concat(read_raw(schema, [path])).equals(pl.concat(read_raw(expected, [shop.csv])))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_of_another_format_is_an_error(shop, arrow_table, kind):
    path = shop.folder / "rows.csv"
    WRITERS[kind][0](arrow_table, str(path))
    found = binary_format(head_of(path))
    refusal(shop.prepare, "not text", f"file.format={found}")
    other = "arrow" if found == "parquet" else "parquet"
    refusal(lambda: shop.prepare(f"file.format={other}"), "not a valid", "rows.csv", "got:")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_truncated_file_is_one_message(shop, arrow_table, kind):
    write, file_format = WRITERS[kind]
    path = shop.folder / "rows.bin"
    write(pa.concat_tables([arrow_table] * 50), str(path))
    whole = path.read_bytes()
    for length in (0, 3, 9, len(whole) // 2, len(whole) - 12):
        path.write_bytes(whole[:length])
        refusal(
            lambda: shop.prepare(f"file.format={file_format}", raw=[path]),
            "not a valid",
            "rows.bin",
        )


@pytest.mark.parametrize("kind", ["arrow file", "arrow stream", "orc", "parquet"])
def test_changed_bytes_are_a_message_or_other_values_but_no_crash(tmp_path, arrow_table, kind):
    path = tmp_path / "rows.bin"
    write, file_format = WRITERS[kind]
    write(arrow_table, str(path))
    whole = path.read_bytes()
    for at in range(8, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            frames = [frame for _, frame in read_columns(path, file_format, ["colour", "price"])]
        except (RecsysError, KeyError):  # KeyError: another name, which `prepare` looks up first
            continue
        assert all(frame.columns == ["colour", "price"] for frame in frames)


def test_text_and_compressed_files_are_not_parquet(shop, arrow_table):
    path = shop.folder / "rows.parquet"
    shop.csv.rename(path)
    refusal(lambda: shop.prepare("file.format=parquet", raw=[path]), "not a valid Parquet", "text")
    pq.write_table(arrow_table, path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    refusal(lambda: shop.prepare("file.format=parquet", raw=[path]), "got:      a gzip file")
    refusal(lambda: shop.prepare(raw=[path]), "Parquet file inside gzip", "extract")


def test_column_names_that_begin_like_a_format_are_text(shop):
    for name in ("ORC", "PAR1", "ARROW1"):
        text = shop.csv.read_text()
        shop.csv.write_text(text.replace("bought", name, 1))
        shop.prepare(f"label.column={name}", out=shop.folder / name)
        shop.csv.write_text(text)


def test_column_names_in_a_recipe_are_for_text(shop, arrow_table):
    path = shop.folder / "rows.bin"
    pq.write_table(arrow_table, path)
    overrides = ["file={format: parquet, columns: [a, b, c, d, e]}"]
    refusal(lambda: shop.prepare(*overrides, raw=[path]), "file.columns is only for text")


def test_a_duplicate_column_is_refused(shop, arrow_table):
    path = shop.folder / "rows.bin"
    pq.write_table(arrow_table.append_column("user", arrow_table["user"]), path)
    refusal(lambda: shop.prepare("file.format=parquet", raw=[path]), "duplicate column name 'user'")
