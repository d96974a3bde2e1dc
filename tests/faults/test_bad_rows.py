"""Data sets that do not keep their contract: the feature, the file and the row are named."""

import json
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.parquet import RowGroups
from recsys.errors import RecsysError
from recsys.schema import load_schema
from tests.faults.commands import files_below, run

NAN, INF = float("nan"), float("inf")
PART = "part-00001.parquet"


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path, row_group_size=64)


def with_value(column: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        index = table.column_names.index(column)
        return table.set_column(index, column, pa.array(values, table[column].type))

    return change


def cast(column: str, type_: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        index = table.column_names.index(column)
        return table.set_column(index, column, table[column].cast(type_))

    return change


BAD_VALUES = {
    "an id as large as the cardinality": ("item", 80, "'item'", "0 to 79", "80"),
    "a huge id": ("color", 2**31 - 1, "'color'", "0 to 4", "2147483647"),
    "a negative id": ("shop", -1, "'shop'", "0 to 19", "-1"),
    "a bad id in a sequence": ("history", [1, 80], "'history'", "0 to 79", "80"),
    "a negative id in a sequence": ("history", [-3], "'history'", "0 to 79", "-3"),
    "NaN in a numerical feature": ("price", NAN, "'price'", "finite", "nan"),
    "infinity in a numerical feature": ("age", INF, "'age'", "finite", "inf"),
    "minus infinity in a numerical feature": ("age", -INF, "'age'", "finite", "-inf"),
    "a label of 2": ("label", 2, "'label'", "0 or 1", "2"),
    "a label of -1": ("label", -1, "'label'", "0 or 1", "-1"),
    "a missing label": ("label", None, "'label'", "missing value"),
    "a missing id": ("item", None, "'item'", "missing value"),
    "a missing sequence": ("history", None, "'history'", "missing value"),
    "a missing number": ("price", None, "'price'", "missing value"),
    "a missing group": ("user", None, "'user'", "missing value"),
}


@pytest.mark.parametrize("bad", BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_bad_value_stops_training_with_its_place(damaged, dataset, tmp_path, bad):
    column, value, *words = bad
    split = "valid" if column == "price" else "train"
    rewrite(dataset / split / PART, with_value(column, 70, value))
    outcome = run("train", damaged, "train.epochs=1", "--out", tmp_path / "run")
    assert outcome.is_refusal(*words, f"{split}/{PART}, row 70")
    assert not (tmp_path / "run" / "training.json").exists()
    assert not list(tmp_path.glob("run/report*"))


def test_a_bad_value_in_the_test_split_stops_evaluation(damaged, dataset, tmp_path):
    rewrite(dataset / "test" / PART, with_value("color", 70, 5))
    outcome = run("train", damaged, "train.epochs=1", "--out", tmp_path / "run")
    assert outcome.is_refusal("'color'", f"test/{PART}, row 70", "0 to 4")
    assert (tmp_path / "run" / "training.json").exists()
    assert [path.name for path in (tmp_path / "run" / "predictions").iterdir()] == ["valid.parquet"]
    assert not list(tmp_path.glob("run/report*"))


@pytest.mark.parametrize("store", ["fused", "plain"])
def test_labels_that_are_half_are_named(damaged, dataset, tmp_path, store):
    def halve(table: pa.Table) -> pa.Table:
        return with_value("label", 3, 0.5)(cast("label", pa.float32())(table))

    rewrite(dataset / "train" / PART, halve)
    outcome = run("train", damaged, f"embeddings.store={store}", "--out", tmp_path / "run")
    assert outcome.is_refusal("'label'", "0.5", f"train/{PART}, row 3")


BAD_COLUMNS = {
    "a missing feature": (lambda t: t.drop_columns(["shop"]), "no column 'shop'"),
    "a feature of another name": (
        lambda t: t.rename_columns([{"item": "items"}.get(n, n) for n in t.column_names]),
        "no column 'item'",
        "did you mean 'items'?",
    ),
    "a missing label": (lambda t: t.drop_columns(["label"]), "no column 'label'"),
    "a missing group": (lambda t: t.drop_columns(["user"]), "no column 'user'"),
    "wide ids": (cast("item", pa.int64()), "'item'", "int32", "int64"),
    "ids as text": (cast("color", pa.string()), "'color'", "int32", "string"),
    "wide ids in a sequence": (cast("history", pa.list_(pa.int64())), "'history'", "int64"),
    "wide numbers": (cast("price", pa.float64()), "'price'", "float", "double"),
    "labels as text": (cast("label", pa.string()), "'label'", "string"),
    "groups as text": (cast("user", pa.string()), "'user'", "integer", "string"),
    "a row less": (lambda t: t.slice(1), "number of rows differs", "300", "299"),
}


@pytest.mark.parametrize("bad", BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_a_bad_column_is_found_before_anything_is_written(damaged, dataset, tmp_path, bad):
    change, *words = bad
    rewrite(dataset / "train" / PART, change)
    outcome = run("train", damaged, "--out", tmp_path / "run")
    assert outcome.is_refusal(*words, f"train/{PART}")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def as_text(path: Path) -> None:
    path.write_text("label,item\n1,2\n")


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def zero_footer(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(192) + content[-8:])


BROKEN_FILES = {
    "cut short": (cut, "truncated, damaged or not Parquet"),
    "empty": (empty, "truncated, damaged or not Parquet"),
    "text": (as_text, "truncated, damaged or not Parquet"),
    "a footer of zeros": (zero_footer, "truncated, damaged or not Parquet"),
    "a folder": (as_folder, "not a regular file"),
    "gone": (Path.unlink, "not found"),
}


@pytest.mark.parametrize(("break_", "words"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_broken_file_is_named(damaged, dataset, tmp_path, break_, words):
    split = "valid" if break_ in (cut, Path.unlink) else "train"
    break_(dataset / split / PART)
    outcome = run("train", damaged, "--out", tmp_path / "run")
    assert outcome.is_refusal(words, f"{split}/{PART}")
    assert not list(tmp_path.glob("run/checkpoints/*"))


def columns_of(dataset: Path) -> list[list[object]]:
    """Every value of the train split, as the loader reads it."""
    rows = RowGroups(dataset, load_schema(dataset), "train")
    columns = [rows.read(number) for number in range(len(rows.groups))]
    return [
        [array.tolist() for array in (*c.ids, *chain(*c.sequences), *c.dense, c.labels)]
        for c in columns
    ]


def test_a_flipped_bit_in_a_page_never_gives_other_rows(dataset):
    path = dataset / "train" / PART
    content = bytearray(path.read_bytes())
    whole = columns_of(dataset)
    footer = int.from_bytes(content[-8:-4], "little") + 8
    messages = []
    positions = range(4, len(content) - footer, 199)
    for number, position in enumerate(positions):
        content[position] ^= 1 << number % 8
        path.write_bytes(content)
        try:
            assert columns_of(dataset) == whole  # a bit of a page's header that is not used
        except RecsysError as error:
            messages.append(str(error))
        content[position] ^= 1 << number % 8
    assert len(messages) > 0.7 * len(positions)
    assert [message for message in messages if PART not in message] == []


def test_a_flipped_bit_stops_training(damaged, dataset, tmp_path):
    path = dataset / "train" / PART
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert run("train", damaged, "--out", tmp_path / "run").is_refusal("damaged", PART)


def change_schema(dataset: Path, change: Callable[[dict], object]) -> None:
    path = dataset / "schema.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def feature(schema: dict, name: str) -> dict:
    return next(f for f in schema["features"] if f["name"] == name)


BAD_SCHEMAS = {
    "of a newer format": (lambda s: s.update(format=2), "newer recsys", "format 2", "schema.json"),
    "with a key that we do not know": (lambda s: s.update(colour=1), "colour"),
    "without features": (lambda s: s.pop("features"), "features"),
    "with an unknown kind": (lambda s: feature(s, "item").update(kind="image"), "features"),
    "with an unknown transform": (
        lambda s: feature(s, "price").update(transform={"kind": "cube"}),
        "transform",
    ),
    "with a cardinality of zero": (lambda s: feature(s, "item").update(cardinality=0), "cardinal"),
    "with ids and no cardinality": (lambda s: feature(s, "item").pop("cardinality"), "cardinality"),
    "with a feature twice": (
        lambda s: s["features"].append(s["features"][0]),
        "duplicate",
        "'price'",
    ),
    "without the train split": (lambda s: s["splits"].pop("train"), "no split 'train'"),
    "without the valid split": (lambda s: s["splits"].pop("valid"), "no split 'valid'"),
    "with an empty train split": (
        lambda s: s["splits"]["train"].update(rows=0, positives=0, files=[]),
        "the train split needs rows",
    ),
    "with an empty valid split": (
        lambda s: s["splits"]["valid"].update(rows=0, positives=0, files=[]),
        "the valid split needs rows",
    ),
    "with a file outside the data set": (
        lambda s: s["splits"]["train"]["files"][0].update(path="../../etc/passwd"),
        "../../etc/passwd",
    ),
}


@pytest.mark.parametrize("bad", BAD_SCHEMAS.values(), ids=BAD_SCHEMAS)
def test_a_bad_schema_is_explained(damaged, dataset, tmp_path, bad):
    change, *words = bad
    change_schema(dataset, change)
    outcome = run("train", damaged, "--out", tmp_path / "run")
    assert outcome.is_refusal(*words)
    assert not list(tmp_path.glob("run/checkpoints/*"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_schema_that_is_cut_short_is_no_schema(damaged, dataset, tmp_path, content):
    (dataset / "schema.json").write_bytes(content)
    outcome = run("train", damaged, "--out", tmp_path / "run")
    assert outcome.is_refusal("the schema is damaged", "schema.json")
    assert files_below(tmp_path / "run") == []


def test_a_killed_prepare_leaves_no_data_set(damaged, dataset, tmp_path):
    (dataset / "schema.json").unlink()
    outcome = run("train", damaged, "--out", tmp_path / "run")
    assert outcome.is_refusal("is not a dataset", "recsys prepare")


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_one_class_only(damaged, dataset, tmp_path, split, label):
    for path in (dataset / split).iterdir():
        rows = pl.read_parquet(path).with_columns(pl.lit(label, pl.Int8).alias("label"))
        rows.write_parquet(path, use_pyarrow=True)
    outcome = run("train", damaged, "--out", tmp_path / "run")
    if split == "valid":
        assert outcome.is_refusal("AUC is not defined", f"only label {label}")
    else:
        assert outcome.code == 0, outcome.err  # a constant is learnt, and measured honestly


L2 = "train.embedding_optimizer.l2=1.0e-3"


@pytest.mark.parametrize("break_", [cut, empty, Path.unlink], ids=["cut", "empty", "gone"])
def test_a_broken_vocabulary_is_named_by_all_that_read_it(
    damaged, dataset, trained, tmp_path, break_
):
    break_(dataset / "vocabularies" / "item.parquet")
    outcome = run("train", damaged, L2, "--out", tmp_path / "new")
    assert outcome.is_refusal("vocabularies/item.parquet")
    path = trained / "config.yaml"
    path.write_text(path.read_text().replace(str(path_of(path)), str(dataset)))
    outcome = run("export", trained, "--out", tmp_path / "export")
    assert outcome.is_refusal("vocabularies/item.parquet")
    assert not (tmp_path / "export").exists()


def path_of(config: Path) -> str:
    """The data set that a run folder's config names."""
    line = next(line for line in config.read_text().splitlines() if "path:" in line)
    return line.split("path: ")[1]


def test_a_vocabulary_of_other_ids_is_refused(damaged, dataset, tmp_path):
    path = dataset / "vocabularies" / "item.parquet"
    rows = pl.read_parquet(path).with_columns(pl.col("id") + 1)
    rows.write_parquet(path)
    outcome = run("train", damaged, L2, "--out", tmp_path / "run")
    assert outcome.is_refusal("vocabularies/item.parquet", "item", "80")


def test_a_data_set_replaced_after_training_is_not_scored_as_the_old_one(trained, tmp_path):
    config = trained / "config.yaml"
    other = shutil.copytree(path_of(config), tmp_path / "other")
    config.write_text(config.read_text().replace(path_of(config), str(other)))
    rewrite(other / "test" / PART, lambda table: table.slice(1))
    outcome = run("evaluate", trained)
    assert outcome.is_refusal("number of rows differs", f"test/{PART}")


def test_a_run_that_bad_data_stopped_starts_once_more_when_they_are_mended(
    damaged, dataset, tmp_path
):
    path = dataset / "train" / PART
    content = path.read_bytes()
    cut(path)
    out = tmp_path / "run"
    assert run("train", damaged, "--out", out).is_refusal("damaged", PART)
    path.write_bytes(content)
    assert run("train", damaged, "--out", out).is_refusal("not empty", f"--resume {out}")
    outcome = run("train", "--resume", out)
    assert outcome.code == 0, outcome.err
    assert (out / "report.json").exists()
