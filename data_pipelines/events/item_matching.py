"""The item table of a log: a joined table that each item of the log meets once."""

import polars as pl

from data_pipelines.sources.keyed_table import NUM_EXAMPLES, KeyedTable, quoted
from recsys.errors import RecsysError


class ItemMatching(KeyedTable):
    """Its rows are the log's items, each once; the table's columns replace the log's."""

    def __init__(self, table: pl.DataFrame, item: str) -> None:
        columns = pl.DataFrame([column for column in table if column.name != item])
        super().__init__("item table", (item,), [table[item]], columns)

    def check_matches(self) -> None:
        """Raises RecsysError if the table has not one item of the log."""
        counts = self.counts()
        if not counts.rows or counts.unmatched < counts.rows:
            return
        raise RecsysError(
            "no item of the log is in the item table",
            where=f"the column {self.key[0]!r}",
            expected=f"the log's spelling, such as {quoted(self.examples)}",
            got=f"in the table: {quoted(self.own_examples())}",
            fix="write the items alike in both files, or set events.items.item",
        )

    def warnings(self) -> list[str]:
        """What the user must know of the join."""
        counts, found = self.counts(), []
        if counts.unmatched:
            found.append(
                f"{self.name}: {counts.unmatched:,} of the log's {counts.rows:,} items "
                f"({counts.unmatched / counts.rows:.1%}) are not in it, such as "
                f"{quoted(self.examples[:NUM_EXAMPLES])}; their features are missing"
            )
        if counts.unmatched and counts.unused:
            found.append(
                f"{self.name}: {counts.unused:,} of its {counts.table_keys:,} items are not in "
                "the log"
            )
        return found + self.warnings_of_table()
