"""How the items of a log and the keys of its item table meet, and what is said if they do not."""

import polars as pl

from recsys.errors import RecsysError

NUM_EXAMPLES = 3
KEY = "@key"  # beside the table's own columns


def join_key(items: pl.Series) -> pl.Series:
    """The spelling under which items are joined: a whole number may have decimals of zero.

    A column of integers that was once read as floats is written 1.0, 2.0 …: the same items.
    `0001` and `1` remain two items.
    """
    return items.str.replace(r"^(-?\d+)\.0+$", "$1").alias(KEY)


class ItemMatching:
    """Counts the log's items that the table has."""

    def __init__(self, table: pl.DataFrame, item: str) -> None:
        keyed = table.with_columns(join_key(table[item]))
        self.table = keyed.unique(KEY, keep="first", maintain_order=True)
        self.item = item
        self.items, self.matched = 0, 0
        self.examples: list[str] = []  # items of the log that the table lacks

    def join(self, values: pl.DataFrame) -> pl.DataFrame:
        """One row for each new item → the same rows with the table's columns."""
        of_log = [c for c in values.columns if c not in self.table.columns or c == self.item]
        keyed = pl.DataFrame([*(values[c] for c in of_log), join_key(values[self.item])])
        table = pl.DataFrame([c for c in self.table if c.name != self.item]).with_columns(
            pl.lit(True).alias("@found")
        )
        joined = keyed.join(table, on=KEY, how="left", maintain_order="left")
        is_found = joined["@found"].fill_null(False)
        self.items += len(joined)
        self.matched += int(is_found.sum())
        if len(self.examples) < NUM_EXAMPLES:
            self.examples += joined.filter(~is_found)[self.item][:NUM_EXAMPLES].to_list()
        return joined.drop(KEY, "@found")

    def warnings(self) -> list[str]:
        """What the user must know of the join.

        Raises:
            RecsysError: if the table has not one item of the log.
        """
        if self.items and not self.matched:
            raise RecsysError(
                "no item of the log is in the item table",
                where=f"the column {self.item!r}",
                expected=f"the log's spelling, such as {self._quoted(self.examples)}",
                got=f"in the table: {self._quoted(self.table[self.item][:NUM_EXAMPLES].to_list())}",
                fix="write the items alike in both files, or set events.items.item",
            )
        lacking = self.items - self.matched
        unused = len(self.table) - self.matched
        found = []
        if lacking:
            found.append(
                f"item table: {lacking:,} of the log's {self.items:,} items "
                f"({lacking / self.items:.1%}) are not in it, such as "
                f"{self._quoted(self.examples)}; their features are missing"
            )
        if unused > 0 and lacking:
            found.append(
                f"item table: {unused:,} of its {len(self.table):,} items are not in the log"
            )
        return found

    @staticmethod
    def _quoted(items: list[str]) -> str:
        return ", ".join(map(repr, items[:NUM_EXAMPLES]))
