"""Small tables and recipes."""

import polars as pl
import pytest
import yaml

from data_pipelines import prepare

# 10 rows; the first 6 train, then 2 valid, 2 test.
COLOURS = ["red", "red", "red", "blue", "blue", "green", "red", "black", "green", None]
PRICES = [1.0, 2.0, 3.0, 4.0, None, 6.0, 7.0, 8.0, 9.0, 10.0]
TAGS = ["a|b", "a", None, "b|a|c", "a|", "b", "c|a", "z", "b|b", "a|b|c|d"]
USERS = ["7", "7", "8", "8", "9", "9", "7", "8", "9", "7"]
RECIPE = {
    "name": "shop",
    "label": {"column": "bought"},
    "numerical": {"columns": ["price"]},
    "categorical": {"columns": ["colour"]},
    "sequence": {"columns": ["tags"]},
    "group": "user",
    "min_count": 1,
    "split": {"method": "by_time", "fractions": [0.6, 0.2, 0.2]},
}


@pytest.fixture
def table():
    return pl.DataFrame(
        {
            "bought": [1, 0, 1, 0, 0, 1, 0, 1, 0, 1],
            "price": PRICES,
            "colour": COLOURS,
            "tags": TAGS,
            "user": USERS,
        }
    )


class Shop:
    """Prepares the small table, with changes to the recipe."""

    def __init__(self, folder, table):
        self.folder = folder
        self.csv = folder / "rows.csv"
        self.recipe = folder / "shop.yaml"
        self.out = folder / "out"
        table.write_csv(self.csv)
        self.recipe.write_text(yaml.safe_dump(RECIPE))

    def prepare(self, *overrides, raw=None, out=None):
        return prepare(str(self.recipe), raw or [self.csv], out or self.out, overrides)

    def column(self, name, split="train", out=None):
        return pl.read_parquet(sorted((out or self.out).glob(f"{split}/*.parquet")))[name].to_list()

    def vocabulary(self, name):
        return pl.read_parquet(self.out / f"vocabularies/{name}.parquet").rows()


@pytest.fixture
def shop(tmp_path, table):
    return Shop(tmp_path, table)
