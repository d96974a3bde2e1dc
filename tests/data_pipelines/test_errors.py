"""Invalid input: one message that says where, and no partial dataset."""

import errno
import gzip
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pytest

from data_pipelines import prepare, read_raw
from data_pipelines.encoding.staging import Staged
from data_pipelines.writing import SplitWriter, readable_os_errors
from recsys.errors import RecsysError


@pytest.fixture
def refuses(shop):
    """Checks that prepare fails with all these words, and that the folder is as it was before."""

    def check(*words, overrides=(), raw=None):
        before = sorted(shop.folder.iterdir())
        with pytest.raises(RecsysError) as caught:
            shop.prepare(*overrides, raw=raw)
        for word in words:
            assert word in str(caught.value)
        assert sorted(shop.folder.iterdir()) == before

    return check


def edit(shop, old, new):
    text = shop.csv.read_text()
    assert old in text
    shop.csv.write_text(text.replace(old, new, 1))


def test_unknown_dataset(tmp_path):
    with pytest.raises(RecsysError, match="did you mean 'criteo_kaggle'"):
        prepare("criteo_kagle", [], tmp_path / "out")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("min_cout=3", ["min_cout", "did you mean 'min_count'"]),
        ("split.metod=random", ["metod"]),
        ("split.method=randon", ["randon", "did you mean 'random'"]),
        ("numerical.transform=standardise", ["standardise", "did you mean 'standardize'"]),
        ("numerical.transform.mising=1", ["mising", "did you mean 'missing'"]),
        ("encoding=vocabluary", ["vocabluary", "did you mean 'vocabulary'"]),
        ("min_count=0", ["min_count", "greater than 0"]),
        ("split={method: random, fractions: [0.5, 0.1, 0.1]}", ["fractions", "sum to 1"]),
        ("min_count", ["min_count", "="]),
        ("min_count=[1", ["min_count", "YAML"]),
    ],
)
def test_wrong_override(refuses, override, words):
    refuses(*words, overrides=[override])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("categorical.columns=[color]", ["'color' not found", "did you mean 'colour'"]),
        ("numerical.columns=['x*']", ["'x*' not found"]),
        ("group=usr", ["'usr' not found", "did you mean 'user'"]),
        ("per_feature.colur.min_count=3", ["'colur' not found", "did you mean 'colour'"]),
        ("shared_vocabulary.price=colour", ["cannot share", "price", "colour"]),
        ("label.column=click", ["label column 'click' not found"]),
        ("categorical.columns=[colour, price]", ["duplicate column 'price'"]),
        ("categorical.columns=[bought]", ["'bought' cannot be a feature"]),
        ("split={method: by_time, column: when}", ["'when' not found"]),
        (
            "per_feature.colour.transform=log",
            ["a transform is not allowed for the categorical feature 'colour'"],
        ),
    ],
)
def test_wrong_names(refuses, override, words):
    refuses(*words, overrides=[override])


def test_a_recipe_without_features(refuses):
    refuses(
        "has no features",
        overrides=[f"{kind}.columns=[]" for kind in ("numerical", "categorical", "sequence")],
    )


def test_a_recipe_with_a_duplicate_key(refuses, shop):
    shop.recipe.write_text(shop.recipe.read_text() + "min_count: 3\n")
    refuses("duplicate key 'min_count'", str(shop.recipe))


def test_a_missing_recipe(shop):
    with pytest.raises(RecsysError, match=r"none\.yaml"):
        prepare(str(shop.folder / "none.yaml"), [shop.csv], shop.out)


def test_a_label_outside_its_rule_is_named_with_its_row(refuses, shop, monkeypatch):
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", 50)
    edit(shop, "1,8.0,black", "2,8.0,black")
    refuses("'bought'", "data row 8", "0 or 1", "'2'")


def test_a_missing_label_is_outside_its_rule(refuses, shop):
    edit(shop, "1,8.0,black", ",8.0,black")
    refuses("'bought'", "data row 8", "None")


@pytest.mark.parametrize(
    ("new", "got"), [("blue", "4"), ("blue,blue,x", "6"), ("\n", "got:      3")]
)
def test_a_row_with_the_wrong_number_of_columns(refuses, shop, monkeypatch, new, got):
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", 50)
    edit(shop, "blue,b|a|c", new)
    refuses("wrong number of columns", "data row 4", "5 columns", got)


def test_a_label_column_in_another_case_is_found(refuses, shop):
    edit(shop, "bought", "Bought")
    refuses("label column 'bought' not found", "did you mean 'Bought'?")


def test_a_first_row_read_as_names_is_explained(refuses, shop):
    lines = shop.csv.read_text().splitlines(keepends=True)
    shop.csv.write_text("".join(lines[1:]))
    refuses("label column 'bought' not found", "file.header=false")
    shop.csv.write_text("1,1,red,a,7\n")
    refuses("duplicate column name '1'", "header=false", "rows.csv")


def test_a_table_with_another_separator_is_not_read_as_one_without_labels(refuses, shop):
    shop.csv.write_text(shop.csv.read_text().replace(",", ";"))
    refuses("','", "file.separator=';'", "rows.csv")


def test_an_invalid_number(refuses, shop):
    edit(shop, "7.0", "cheap")
    refuses("'price'", "data row 7", "'cheap'")


def test_bytes_that_are_not_utf8(refuses, shop):
    content = shop.csv.read_bytes().replace(b"black", b"bl\xffck")
    shop.csv.write_bytes(content)
    byte = content.index(b"\xff")
    refuses("not valid utf-8", f"rows.csv, line 9, byte {byte}", "0xff", "file.encoding")


def test_a_duplicate_column_name_in_the_header(refuses, shop):
    edit(shop, "user", "tags")
    refuses("duplicate column name 'tags'", "rows.csv")


def test_a_truncated_gzip_file(refuses, shop):
    whole = gzip.compress(os.urandom(200).hex().encode() + shop.csv.read_bytes())
    packed = shop.folder / "rows.csv.gz"
    packed.write_bytes(whole[: len(whole) // 2])
    refuses("truncated", "rows.csv.gz", raw=[packed])


def test_a_damaged_gzip_file(refuses, shop):
    whole = bytearray(gzip.compress(shop.csv.read_bytes()))
    whole[-6] ^= 1  # the checksum
    packed = shop.folder / "rows.csv.gz"
    packed.write_bytes(bytes(whole))
    refuses("damaged", "rows.csv.gz", raw=[packed])


def test_text_given_as_parquet(refuses):
    refuses("not a valid Parquet file", "rows.csv", overrides=["file.format=parquet"])


def test_truncated_parquet(refuses, shop, table):
    path = shop.folder / "rows.parquet"
    table.write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    refuses("not a valid Parquet file", overrides=["file.format=parquet"], raw=[path])


def test_parquet_given_as_text(refuses, shop, table):
    path = shop.folder / "rows.parquet"
    table.write_parquet(path)
    refuses("Parquet file, not text", "file.format=parquet", raw=[path])


def test_an_empty_split(refuses):
    refuses("'valid' is empty", "train 6", overrides=["split.fractions=[0.6, 0.0, 0.4]"])


def test_an_empty_file(refuses, shop):
    shop.csv.write_text("")
    refuses("the file is empty", "rows.csv")


def test_a_file_with_a_header_and_nothing_else(refuses, shop):
    shop.csv.write_text(shop.csv.read_text().splitlines()[0] + "\n")
    refuses("no data rows", "rows.csv")


def test_a_missing_raw_file(refuses, shop):
    refuses("not found", "none.csv", raw=[shop.folder / "none.csv"])


def test_a_file_without_a_split(refuses):
    refuses("no pattern for a raw file", "rows.csv", overrides=["split.method=given_files"])


def test_an_invalid_time(refuses):
    refuses("'colour'", "'red'", overrides=["split={method: by_time, column: colour}"])


def test_by_group_without_a_group(refuses):
    refuses("group column", overrides=["group=null", "split.method=by_group"])


def test_an_existing_output_folder_is_not_changed(refuses, shop):
    shop.out.mkdir()
    (shop.out / "precious.txt").write_text("x")
    refuses("exists already", "out")
    with pytest.raises(RecsysError, match="exists already"):
        prepare(str(shop.recipe), [shop.csv], shop.out, overwrite=True)
    assert (shop.out / "precious.txt").exists()


@pytest.mark.parametrize(
    ("number", "word"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "no permission")]
)
@pytest.mark.parametrize("method", [(Staged, "add"), (SplitWriter, "add")])
def test_a_full_disk_or_a_missing_permission(refuses, monkeypatch, number, word, method):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*method, fail)
    refuses(word, "out")


def test_a_full_disk_in_arrow_is_an_os_error_with_its_number(tmp_path):
    with (
        pytest.raises(RecsysError, match="the disk is full"),
        readable_os_errors(tmp_path),
        pa.OSFile("/dev/full", "wb") as file,
    ):
        file.write(b"x" * 100)


def test_a_killed_prepare_leaves_no_dataset(shop):
    script = (
        "import sys, time, pathlib, data_pipelines as d\n"
        "def stop(stage, done, total):\n"
        "    if stage == 'write': print('writing', flush=True); time.sleep(60)\n"
        "d.prepare(sys.argv[1], [pathlib.Path(sys.argv[2])], pathlib.Path(sys.argv[3]), (), stop)"
    )
    command = [sys.executable, "-c", script, str(shop.recipe), str(shop.csv), str(shop.out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not shop.out.exists()
    assert not list(shop.folder.glob("**/schema.json"))
    shop.prepare()
    assert sorted(p.name for p in shop.folder.iterdir()) == ["out", "rows.csv", "shop.yaml"]


def test_raw_files_of_another_kind_are_refused_when_read_for_scoring(shop, table):
    schema = shop.prepare()
    table.drop("colour").write_csv(shop.csv)
    with pytest.raises(RecsysError, match="'colour' not found"):
        list(read_raw(schema, [shop.csv]))
