"""A table in memory, by key: finds the row of each key, and counts the keys that it lacks."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys.errors import RecsysError
from recsys.schema import JoinCounts

NUM_EXAMPLES = 3
PLACE = "place"


def comparable(keys: pl.Series) -> pl.Series:
    """The spelling under which keys are compared: a whole number may have decimals of zero.

    A column of integers that was once read as floats is written 1.0, 2.0 …: the same keys.
    `0001` and `1` remain different.
    """
    texts = keys.cast(pl.String)
    if not texts.str.contains(".0", literal=True).any():
        return texts
    return texts.str.replace(r"^(-?\d+)\.0+$", "$1")


class KeyedTable:
    """Columns by key; the first row of a key counts."""

    def __init__(
        self, name: str, key: Sequence[str], keys: Sequence[pl.Series], columns: pl.DataFrame
    ) -> None:
        """`keys` are the table's, (rows,) each; `key` names the columns of the rows they meet."""
        self.name, self.key = name, tuple(key)
        self.columns = columns
        rows = _numbered(keys)
        places = rows.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias(PLACE))
        present = places.filter(pl.Series(~_any_null(keys)))
        self._places = present.unique(rows.columns, keep="first", maintain_order=True)
        self.without_key = len(rows) - len(present)
        self.duplicates = len(present) - len(self._places)
        self._is_used = np.zeros(len(rows), np.bool_)
        self._rows, self._missing, self._unmatched = 0, 0, 0
        self.examples: list[str] = []

    def join(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with the table's columns; they are null where the table lacks the key."""
        keys = [frame[name] for name in self.key]
        rows = _numbered(keys)
        joined = rows.join(self._places, on=rows.columns, how="left", maintain_order="left")
        places = joined[PLACE]
        self._count(keys, places)
        return frame.with_columns(column.gather(places) for column in self.columns)

    def _count(self, keys: list[pl.Series], places: pl.Series) -> None:
        has_key = ~_any_null(keys)
        is_unmatched = has_key & places.is_null().to_numpy()
        self._rows += len(places)
        self._missing += int((~has_key).sum())
        self._unmatched += int(is_unmatched.sum())
        self._is_used[places.drop_nulls().to_numpy()] = True
        if is_unmatched.any() and len(self.examples) < NUM_EXAMPLES:
            lacking = _spelled([k.filter(pl.Series(is_unmatched)) for k in keys])
            self.examples = list(dict.fromkeys([*self.examples, *lacking]))[:NUM_EXAMPLES]

    def counts(self) -> JoinCounts:
        """What `join` has met so far."""
        return JoinCounts(
            table=self.name,
            key=self.key,
            rows=self._rows,
            missing=self._missing,
            unmatched=self._unmatched,
            table_keys=len(self._places),
            unused=len(self._places) - int(self._is_used.sum()),
        )

    def check_matches(self) -> None:
        """Raises RecsysError if rows had keys, and the table has none of them."""
        if not self._unmatched or self._rows > self._missing + self._unmatched:
            return
        raise RecsysError(
            f"no {self._key_words} of the rows is in the joined table",
            where=self.name,
            expected=f"the rows' spelling, such as {quoted(self.examples)}",
            got=f"in the table: {quoted(self.own_examples())}",
            fix="write the keys alike in both files, or set join.key and join.table_key",
        )

    def warnings(self) -> list[str]:
        """What the user must know of the join."""
        counts, found = self.counts(), []
        if counts.unmatched:
            found.append(
                f"{self.name}: {counts.unmatched:,} of {counts.rows:,} rows "
                f"({counts.unmatched / counts.rows:.1%}) have a {self._key_words} that it lacks, "
                f"such as {quoted(self.examples)}; its own look like {quoted(self.own_examples())}"
            )
        return found + self.warnings_of_table()

    def warnings_of_table(self) -> list[str]:
        """What is wrong with the table itself."""
        found = []
        if self.duplicates:
            found.append(
                f"{self.name}: {self.duplicates:,} rows have the {self._key_words} of an earlier "
                "row, which is used instead"
            )
        if self.without_key:
            found.append(f"{self.name}: {self.without_key:,} rows have no {self._key_words}")
        return found

    @property
    def _key_words(self) -> str:
        return " and ".join(self.key)

    def own_examples(self) -> list[str]:
        """Some keys of the table."""
        first = self._places[:NUM_EXAMPLES]
        return _spelled([column for column in first if column.name != PLACE])


def _numbered(keys: Sequence[pl.Series]) -> pl.DataFrame:
    """The keys as they are compared, under names that no column has a say in."""
    return pl.DataFrame([comparable(key).alias(f"key_{i}") for i, key in enumerate(keys)])


def _any_null(keys: Sequence[pl.Series]) -> np.ndarray:
    return np.logical_or.reduce([key.is_null().to_numpy() for key in keys])


def _spelled(keys: Sequence[pl.Series]) -> list[str]:
    """Keys as text, the parts of a key separated by commas."""
    texts = (key.head(1000).cast(pl.String).to_list() for key in keys)
    return [", ".join(map(str, parts)) for parts in zip(*texts, strict=True)]


def quoted(keys: Sequence[str]) -> str:
    """Keys for a message."""
    return ", ".join(map(repr, keys)) or "nothing"
