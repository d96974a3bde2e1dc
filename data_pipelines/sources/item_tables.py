"""Item features beside an event log: tables of any format, and Amazon's metadata.

Metadata are objects, one per line, in JSON or in Python's notation (2014), with `categories` (a
list of paths) or `category`; or one JSON object {item: [attribute, ...]}.
"""

import json
from pathlib import Path

import polars as pl

from data_pipelines.reading.chunks import Dtypes
from data_pipelines.reading.text import (
    BLOCK_BYTES,
    Block,
    block_lines,
    first_line,
    is_json,
    read_blocks,
    text_chunks,
)
from data_pipelines.rules.columns import SequenceColumns
from data_pipelines.rules.files import ItemTable
from data_pipelines.sources.table import detect_format, read_table, table_columns
from recsys.errors import RecsysError

QUOTED = """'(?:[^'\\\\\\n]|\\\\.)*'|"(?:[^"\\\\\\n]|\\\\.)*\""""


def read_item_table(path: Path, rule: ItemTable) -> pl.DataFrame:
    """Reads the item column and the item features as text, null if missing."""
    file = detect_format(path, rule)
    if file.format == "text" and is_json(path, rule):
        return _read_json(path, rule)
    columns = table_columns(path, file, "")
    dtypes: Dtypes = dict.fromkeys(columns, pl.String())
    frames = read_table(path, file, columns, dtypes, SequenceColumns())
    table = pl.concat([pl.DataFrame(schema=dtypes), *(frame for _, frame in frames)])
    if rule.item not in table.columns:
        raise RecsysError(
            f"column {rule.item!r} not found in the item table",
            where=path,
            expected=f"one of {', '.join(table.columns)}",
            fix="set events.items.item (and events.items.separator)",
        )
    return table


def _read_json(path: Path, rule: ItemTable) -> pl.DataFrame:
    line = first_line(path, rule.as_lines())
    if '"asin"' not in line and "'asin'" not in line:
        return _attributes(path, rule)
    blocks = read_blocks(path, rule.as_lines())
    return pl.concat([_metadata(block, path, rule) for block in blocks])


def _metadata(block: Block, path: Path, rule: ItemTable) -> pl.DataFrame:
    """Items and categories of metadata lines, by patterns: the notation of 2014 is not JSON."""
    lines = block_lines(block, path, rule).to_frame()
    line = pl.col("line")
    paths = line.str.extract(r"""["']categories["']: \[\[(.*?)\]\]""")
    paths = pl.coalesce(paths, line.str.extract(r"""["']category["']: \[(.*?)\]"""))
    names = paths.str.extract_all(QUOTED)
    table = lines.select(
        pl.col("line").str.extract(r"""["']asin["']: ["']([^"']+)["']""").alias(rule.item),
        category=names.list.last().str.slice(1).str.head(-1),
        attributes=names.list.eval(pl.element().str.slice(1).str.head(-1))
        .list.join("|")
        .replace("", None),
    )
    is_missing = table[rule.item].is_null()
    if is_missing.any():
        raise RecsysError(
            "a line of the metadata has no asin",
            where=f"{path}, data row {block.first_row + int(is_missing.arg_true()[0])}",
        )
    return table


def _attributes(path: Path, rule: ItemTable) -> pl.DataFrame:
    """One object {item: [attribute, ...]}; the last attribute is the most specific category."""
    item, text = rule.item, b"".join(text_chunks(path, rule, BLOCK_BYTES))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecsysError("invalid JSON", where=path, got=error) from None
    if not all(isinstance(values, list) for values in content.values()):
        raise RecsysError(
            "an item of the item table has no list",
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
