"""A table in memory, joined to rows by key; keys without a match are counted."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys.errors import RecsysError
from recsys.schema import JoinCounts

NUM_EXAMPLES = 3
POSITION = "position"


def _comparable(keys: pl.Series) -> pl.Series:
    """Keys in the form in which they are compared: text, whole numbers without decimals.

    Integers that were read as floats are written 1.0, 2.0 …; these equal 1, 2 …. `0001` and `1`
    are different keys.
    """
    texts = keys.cast(pl.String)
    if not texts.str.contains(".0", literal=True).any():
        return texts
    return texts.str.replace(r"^(-?\d+)\.0+$", "$1")


class KeyedTable:
    """The columns of a table by key; of rows with equal keys the first one is used."""

    def __init__(
        self,
        name: str,
        key: Sequence[str],
        keys: Sequence[pl.Series],
        columns: pl.DataFrame,
        unit: str = "rows",
        setting: str = "join.key and join.table_key",
    ) -> None:
        """Indexes the table, whose key columns are `keys`; `key` are the names in the other rows.

        `name`, `unit` (what the table is joined to) and `setting` (of the recipe) are for messages.
        """
        self.name, self.key, self.columns = name, tuple(key), columns
        self._unit, self._setting = unit, setting
        rows = _numbered(keys)
        positions = rows.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias(POSITION))
        present = positions.filter(pl.Series(~_any_null(keys)))
        self._positions = present.unique(rows.columns, keep="first", maintain_order=True)
        self.without_key = len(rows) - len(present)
        self.duplicates = len(present) - len(self._positions)
        self._is_used = np.zeros(len(rows), np.bool_)
        self._rows, self._missing, self._unmatched = 0, 0, 0
        self._examples: list[str] = []

    def join(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with the columns of the table, null in rows whose key is not in the table."""
        keys = [frame[name] for name in self.key]
        rows = _numbered(keys)
        joined = rows.join(self._positions, on=rows.columns, how="left", maintain_order="left")
        positions = joined[POSITION]
        self._count(keys, positions)
        return frame.with_columns(column.gather(positions) for column in self.columns)

    def _count(self, keys: list[pl.Series], positions: pl.Series) -> None:
        has_key = ~_any_null(keys)
        is_unmatched = has_key & positions.is_null().to_numpy()
        self._rows += len(positions)
        self._missing += int((~has_key).sum())
        self._unmatched += int(is_unmatched.sum())
        self._is_used[positions.drop_nulls().to_numpy()] = True
        if is_unmatched.any() and len(self._examples) < NUM_EXAMPLES:
            unmatched = _texts([k.filter(pl.Series(is_unmatched)) for k in keys])
            self._examples = list(dict.fromkeys([*self._examples, *unmatched]))[:NUM_EXAMPLES]

    def counts(self) -> JoinCounts:
        """Counts of the keys in all calls of `join`."""
        return JoinCounts(
            table=self.name,
            key=self.key,
            rows=self._rows,
            missing=self._missing,
            unmatched=self._unmatched,
            table_keys=len(self._positions),
            unused=len(self._positions) - int(self._is_used.sum()),
        )

    def check_matches(self) -> None:
        """Raises RecsysError if rows have keys, but no key is in the table."""
        if not self._unmatched or self._rows > self._missing + self._unmatched:
            return
        raise RecsysError(
            f"no key of the {self._unit} is in the table",
            where=f"{self.name}, key {self._key_words}",
            expected=f"the keys of the {self._unit}, such as {_quoted(self._examples)}",
            got=f"keys of the table: {_quoted(self._own_examples())}",
            fix=f"write keys in the same form in both files, or set {self._setting}",
        )

    def warnings(self) -> list[str]:
        """Warnings about keys without a match, duplicate keys and missing keys."""
        counts, found = self.counts(), []
        if counts.unmatched:
            found.append(
                f"{self.name}: {counts.unmatched:,} of {counts.rows:,} {self._unit} "
                f"({counts.unmatched / counts.rows:.1%}) have no match by {self._key_words}, such "
                f"as {_quoted(self._examples)}; keys of the table: {_quoted(self._own_examples())}"
            )
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

    def _own_examples(self) -> list[str]:
        """The first keys of the table."""
        first = self._positions[:NUM_EXAMPLES]
        return _texts([column for column in first if column.name != POSITION])


def _numbered(keys: Sequence[pl.Series]) -> pl.DataFrame:
    """The keys in the form in which they are compared, with names that are not patterns."""
    return pl.DataFrame([_comparable(key).alias(f"key_{i}") for i, key in enumerate(keys)])


def _any_null(keys: Sequence[pl.Series]) -> np.ndarray:
    return np.logical_or.reduce([key.is_null().to_numpy() for key in keys])


def _texts(keys: Sequence[pl.Series]) -> list[str]:
    """Keys as text, the parts of a key separated by commas."""
    texts = (key.head(1000).cast(pl.String).to_list() for key in keys)
    return [", ".join(map(str, parts)) for parts in zip(*texts, strict=True)]


def _quoted(keys: Sequence[str]) -> str:
    """Keys for a message."""
    return ", ".join(map(repr, keys)) or "nothing"
