"""Amazon product reviews (McAuley lab, 5-core): logs of (user, item, rating, time).

Reviews are JSON objects, one per line (reviewerID, asin, overall, unixReviewTime), or a table with
a header. Chronological lists are lines of "user item item …", without times. item_tables.py reads
the metadata. DIN (KDD 2018) uses the last category of the last path.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.reading.chunks import Dtypes, NumberedFrame
from data_pipelines.reading.text import Block, block_lines, is_json, read_blocks
from data_pipelines.recipe import Events, Recipe
from data_pipelines.rules.files import FileFormat, ItemTable
from data_pipelines.rules.splits import LastItem, LastTwoItems
from data_pipelines.source import DataSource
from data_pipelines.sources.table import TableSource
from recsys.errors import RecsysError

REVIEWS = {"reviewerID": "user", "asin": "item", "overall": "rating", "unixReviewTime": "time"}
JSON_TYPES = dict(zip(REVIEWS, (pl.String(), pl.String(), pl.Float64(), pl.Int64()), strict=True))

# The original metadata, or a table with the columns item and category.
ITEMS = ItemTable(separator="\t")

AMAZON_REVIEWS = Recipe(
    name="amazon_reviews",
    source="amazon_reviews",
    file=FileFormat(separator="\t"),
    events=Events(item_features=("category",), items=ITEMS),
    split=LastTwoItems(),
)
AMAZON_LISTS = AMAZON_REVIEWS.model_copy(
    update={
        "name": "amazon_lists",
        "source": "item_lists",
        "events": Events(time=None, item_features=("category",), items=ITEMS),
    }
)

# The rows of DIN: of each user's reviews in order of time (by day), the last one is test, all
# others but the first are train, each with one negative. Here, the last but one is valid for some
# users.
AMAZON_ELECTRONICS_DIN = AMAZON_REVIEWS.model_copy(
    update={
        "name": "amazon_electronics_din",
        "min_count": 1,
        "events": Events(item_features=("category",), items=ITEMS, ties="by_order"),
        "split": LastItem(),
    }
)


class AmazonReviewsSource(TableSource):
    """JSON lines or a table; the columns are renamed to user, item, rating and time."""

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        names = list(REVIEWS) if is_json(path, recipe.file) else super().columns(recipe, path)
        return [REVIEWS.get(name, name) for name in names]

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        if is_json(path, recipe.file):
            for block in read_blocks(path, recipe.file.as_lines()):
                frame = _parse_json(block, path).rename(REVIEWS)
                yield block.first_row, frame.select(pl.col(n).cast(t) for n, t in dtypes.items())
            return
        known = super().columns(recipe, path)
        own = {REVIEWS[name]: name for name in known if name in REVIEWS}
        raw_dtypes = {own.get(name, name): dtype for name, dtype in dtypes.items()}
        for row, frame in TableSource().read(recipe, path, raw_dtypes):
            yield row, frame.rename({name: new for new, name in own.items() if new in dtypes})


class ItemListsSource(TableSource):
    """Lines of "user item item …", the items of a user in order of time."""

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        return ["user", "item"]

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        for block in read_blocks(path, recipe.file.as_lines()):
            words = block_lines(block, path, recipe.file).str.strip_chars().str.split(" ")
            if (words.list.len() < 2).any():
                row = int((words.list.len() < 2).arg_true()[0])
                raise RecsysError(
                    "the line has no item",
                    where=f"{path}, data row {block.first_row + row}",
                    expected="a user and items, separated by spaces",
                    got=repr(" ".join(words[row])),
                )
            events = words.to_frame("words").select(
                user=pl.col("words").list.first(), item=pl.col("words").list.slice(1)
            )
            yield block.first_row, events.explode("item").select(list(dtypes))


def _parse_json(block: Block, path: Path) -> pl.DataFrame:
    try:
        return pl.read_ndjson(block.data, schema=JSON_TYPES)
    except pl.exceptions.PolarsError as error:
        raise RecsysError(
            "invalid JSON lines",
            where=f"{path}, data rows {block.first_row} to {block.first_row + block.rows - 1}",
            expected=f"objects with {', '.join(REVIEWS)}",
            got=str(error).splitlines()[0],
        ) from None


AMAZON = DataSource(
    datasets=(AMAZON_REVIEWS, AMAZON_LISTS, AMAZON_ELECTRONICS_DIN),
    readers={"amazon_reviews": AmazonReviewsSource(), "item_lists": ItemListsSource()},
)
