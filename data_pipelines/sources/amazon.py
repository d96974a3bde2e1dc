"""Amazon product reviews (McAuley lab, 5-core) and item tables, in the forms they come in.

Reviews: one JSON object a line (reviewerID, asin, overall, unixReviewTime), or a table with a
header. Chronological lists: "user item item …" a line, without times. Metadata: one object a line,
JSON or Python's own notation (2014), with `categories` (paths) or `category`; or one JSON object,
item → [attribute …]; or a table. DIN (KDD 2018) takes the last category of the last path.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.reading.blocks import BLOCK_BYTES, Block, first_line, read_blocks
from data_pipelines.reading.csv_tables import Dtypes
from data_pipelines.reading.encodings import check_encoding, text_chunks
from data_pipelines.reading.file_kinds import binary_format, head_of
from data_pipelines.recipe import Recipe, SequenceColumns
from data_pipelines.rules.events import Events, ItemTable
from data_pipelines.rules.file_format import LINES, FileFormat
from data_pipelines.rules.splits import LastItem, LastTwoItems
from data_pipelines.sources.table import NumberedFrame, TableSource, read_table, table_columns
from recsys.errors import RecsysError

REVIEWS = {"reviewerID": "user", "asin": "item", "overall": "rating", "unixReviewTime": "time"}
JSON_TYPES = dict(zip(REVIEWS, (pl.String(), pl.String(), pl.Float64(), pl.Int64()), strict=True))
QUOTED = """'(?:[^'\\\\\\n]|\\\\.)*'|"(?:[^"\\\\\\n]|\\\\.)*\""""

# Metadata as they come, or a table with the columns item and category.
TABLE = ItemTable(separator="\t")

AMAZON_REVIEWS = Recipe(
    name="amazon_reviews",
    source="amazon_reviews",
    file=FileFormat(separator="\t"),
    events=Events(item_features=("category",), items=TABLE),
    split=LastTwoItems(),
)
AMAZON_LISTS = AMAZON_REVIEWS.model_copy(
    update={
        "name": "amazon_lists",
        "source": "item_lists",
        "events": Events(time=None, item_features=("category",), items=TABLE),
    }
)

# DIN's rows: of each user's reviews in order of time (a day is its finest), the last is test, all
# others but the first train, each with one other item. Some users' last but one is valid here.
AMAZON_ELECTRONICS_DIN = AMAZON_REVIEWS.model_copy(
    update={
        "name": "amazon_electronics_din",
        "min_count": 1,
        "events": Events(item_features=("category",), items=TABLE, ties="by_order"),
        "split": LastItem(),
    }
)


class AmazonReviewsSource(TableSource):
    """JSON lines, or a table; the reviews' own names become user, item, rating and time."""

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        names = list(REVIEWS) if _is_json(path, recipe.file) else super().columns(recipe, path)
        return [REVIEWS.get(name, name) for name in names]

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        if _is_json(path, recipe.file):
            for block in read_blocks(path, _lines_of(recipe.file)):
                frame = _parse_json(block, path).rename(REVIEWS)
                yield block.first_row, frame.select(pl.col(n).cast(t) for n, t in dtypes.items())
            return
        there = super().columns(recipe, path)
        own = {REVIEWS[name]: name for name in there if name in REVIEWS}
        raw_dtypes = {own.get(name, name): dtype for name, dtype in dtypes.items()}
        for row, frame in TableSource().read(recipe, path, raw_dtypes):
            yield row, frame.rename({name: new for new, name in own.items() if new in dtypes})


class ItemListsSource(TableSource):
    """Lines of "user item item …", each user's items in order of time."""

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        return ["user", "item"]

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        for block in read_blocks(path, _lines_of(recipe.file)):
            words = _lines(block, path).str.strip_chars().str.split(" ")
            if (words.list.len() < 2).any():
                row = int((words.list.len() < 2).arg_true()[0])
                raise RecsysError(
                    "a line holds no item",
                    where=f"{path}, data row {block.first_row + row}",
                    expected="a user and items, separated by spaces",
                    got=repr(" ".join(words[row])),
                )
            events = words.to_frame("words").select(
                user=pl.col("words").list.first(), item=pl.col("words").list.slice(1)
            )
            yield block.first_row, events.explode("item").select(list(dtypes))


def _lines(block: Block, path: Path) -> pl.Series:
    try:
        return pl.Series("line", block.data.decode().split("\n")[:-1])
    except UnicodeDecodeError as error:
        check_encoding(path, LINES, BLOCK_BYTES)
        raise RecsysError("the text cannot be parsed", where=path, got=error) from None


def read_item_table(path: Path, rule: ItemTable) -> pl.DataFrame:
    """The item column and the item features, all text, null where missing."""
    found = binary_format(head_of(path))
    if not found and rule.format == "text" and _is_json(path, rule):
        return _json_table(path, rule)
    file = rule.model_copy(update={"format": found or rule.format})
    columns = table_columns(path, file, "")
    dtypes: Dtypes = dict.fromkeys(columns, pl.String())
    frames = read_table(path, file, columns, dtypes, SequenceColumns())
    table = pl.concat([pl.DataFrame(schema=dtypes), *(frame for _, frame in frames)])
    if rule.item not in table.columns:
        raise RecsysError(
            f"the item table has no column {rule.item!r}",
            where=path,
            expected=f"one of {', '.join(table.columns)}",
            fix="set events.items.item (and events.items.separator)",
        )
    return table


def _json_table(path: Path, rule: ItemTable) -> pl.DataFrame:
    """Metadata lines, or one object item → [attribute …]."""
    line = first_line(path, _lines_of(rule))
    if '"asin"' not in line and "'asin'" not in line:
        return _attributes(path, rule)
    blocks = read_blocks(path, _lines_of(rule))
    return pl.concat([_metadata(block, rule.item, path) for block in blocks])


def _is_json(path: Path, file: FileFormat) -> bool:
    if binary_format(head_of(path)):
        return False
    return first_line(path, _lines_of(file)).lstrip().startswith("{")


def _lines_of(file: FileFormat) -> FileFormat:
    return LINES.model_copy(update={"encoding": file.encoding})


def _parse_json(block: Block, path: Path) -> pl.DataFrame:
    try:
        return pl.read_ndjson(block.data, schema=JSON_TYPES)
    except pl.exceptions.PolarsError as error:
        raise RecsysError(
            "the JSON lines cannot be parsed",
            where=f"{path}, data rows {block.first_row} to {block.first_row + block.rows - 1}",
            expected=f"objects with {', '.join(REVIEWS)}",
            got=str(error).splitlines()[0],
        ) from None


def _metadata(block: Block, item: str, path: Path) -> pl.DataFrame:
    """Items and categories of metadata lines; the notation of 2014 is no JSON, so by pattern."""
    lines = _lines(block, path).to_frame()
    line = pl.col("line")
    paths = line.str.extract(r"""["']categories["']: \[\[(.*?)\]\]""")
    paths = pl.coalesce(paths, line.str.extract(r"""["']category["']: \[(.*?)\]"""))
    names = paths.str.extract_all(QUOTED)
    table = lines.select(
        pl.col("line").str.extract(r"""["']asin["']: ["']([^"']+)["']""").alias(item),
        category=names.list.last().str.slice(1).str.head(-1),
        attributes=names.list.eval(pl.element().str.slice(1).str.head(-1))
        .list.join("|")
        .replace("", None),
    )
    if table[item].null_count():
        raise RecsysError(
            "a line of the metadata has no asin",
            where=f"{path}, data row {block.first_row + int(table[item].is_null().arg_true()[0])}",
        )
    return table


def _attributes(path: Path, rule: ItemTable) -> pl.DataFrame:
    """One object: item → [attribute …]; the last is the most special category."""
    item, text = rule.item, b"".join(text_chunks(path, rule, BLOCK_BYTES))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecsysError("this is not JSON", where=path, got=error) from None
    if not all(isinstance(values, list) for values in content.values()):
        raise RecsysError(
            "the item table holds an item without a list",
            where=path,
            expected='{"item": [attribute, …], …}',
        )
    table = pl.DataFrame(
        {item: list(content), "attributes": [list(map(str, v)) for v in content.values()]},
        schema={item: pl.String, "attributes": pl.List(pl.String)},
    )
    return table.with_columns(
        category=pl.col("attributes").list.last(),
        attributes=pl.col("attributes").list.join("|").replace("", None),
    )
