"""Values → ids in three steps: stage all rows as codes, count the train rows, encode the codes.

Id 0 is for values that are missing, unseen or rarer than `min_count`. Ids from 1 are in descending
order of the counts in the train rows; equal counts are in order of the values.
"""

from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_pipelines.encoding.hashing import hash_distinct
from recsys.errors import RecsysError

Int64s = NDArray[np.int64]


class TextVocabulary:
    """A vocabulary of text, with codes in order of first occurrence; null if missing."""

    def __init__(self) -> None:
        self.dtype = pl.Categorical(pl.Categories.random())
        # Polars drops a dictionary that is not in use by any series.
        self._keeper = pl.Series([], dtype=self.dtype)
        self.counts = np.zeros(1, np.int64)  # by code
        self.ids = np.zeros(1, np.int32)  # by code
        self.table = _empty_table(pl.String())

    def stage(self, values: pl.Series) -> pl.Series:
        """Returns temporary codes of values; those of a hash are the ids."""
        return values.cast(self.dtype).to_physical()

    def texts(self, codes: pl.Series) -> pl.Series:
        """Returns the values of codes (uint32)."""
        return codes.cat.to(self.dtype).cast(pl.String)

    def count(self, staged: pl.Series, weights: Int64s | None = None) -> None:
        """Counts train rows, each once or `weights` (rows,) times."""
        codes = staged.drop_nulls().to_numpy()
        self.counts = grown(self.counts, int(codes.max(initial=0)) + 1)
        if weights is None:
            np.add.at(self.counts, codes, 1)
        else:
            np.add.at(self.counts, codes, weights[staged.is_not_null().to_numpy()])

    def finish(self, min_count: int) -> None:
        """Assigns the ids; called once, after the last `count`."""
        codes = np.flatnonzero(self.counts >= min_count).astype(np.uint32)
        self.table = _ranked(
            pl.DataFrame(
                {
                    "value": self.texts(pl.Series(codes, dtype=pl.UInt32)),
                    "count": self.counts[codes],
                    "code": codes,
                }
            )
        )
        self.ids = np.zeros(len(self.counts), np.int32)
        self.ids[self.table["code"].to_numpy()] = self.table["id"].to_numpy()
        self.counts = np.zeros(1, np.int64)

    def encode(self, staged: pl.Series) -> pl.Series:
        """Returns the ids of codes, int32 without nulls."""
        highest = cast(int | None, staged.max())
        self.ids = grown(self.ids, (highest or 0) + 1)  # unseen: id 0
        return pl.Series(self.ids).gather(staged).fill_null(0)

    @property
    def cardinality(self) -> int:
        """The number of ids, including id 0."""
        return len(self.table) + 1

    def load(self, table: pl.DataFrame) -> "TextVocabulary":
        """Uses a saved vocabulary."""
        codes = self.stage(table["value"]).to_numpy()
        self.table = table
        self.ids = np.zeros(len(table), np.int32)
        self.ids[codes] = table["id"].to_numpy()
        return self


class TokenVocabulary:
    """A vocabulary of the integers of a bucket transform; the code is the token itself."""

    def __init__(self) -> None:
        self.table = _empty_table(pl.Int64())

    def stage(self, values: pl.Series) -> pl.Series:
        return values

    def count(self, staged: pl.Series, weights: Int64s | None = None) -> None:
        assert weights is None, "tokens are counted by row"
        counted = staged.drop_nulls().value_counts(name="count").cast(pl.Int64)
        counted.columns = ["value", "count"]
        both = pl.concat([self.table.select("value", "count"), counted])
        self.table = both.group_by("value").sum()

    def finish(self, min_count: int) -> None:
        self.load(_ranked(self.table.filter(pl.col("count") >= min_count)))

    def encode(self, staged: pl.Series) -> pl.Series:
        return staged.replace_strict(
            self.table["value"], self.table["id"], default=0, return_dtype=pl.Int32
        )

    @property
    def cardinality(self) -> int:
        return len(self.table) + 1

    def load(self, table: pl.DataFrame) -> "TokenVocabulary":
        """Uses a saved vocabulary."""
        self.table = table
        return self


class HashIds:
    """1 + hash64(text) mod (cardinality - 1); 0 if missing. There is nothing to fit."""

    def __init__(self, cardinality: int) -> None:
        self._cardinality = cardinality

    def stage(self, values: pl.Series) -> pl.Series:
        hashes = hash_distinct(values.cast(pl.String)) % np.uint64(self._cardinality - 1)
        ids = hashes.astype(np.int32) + np.int32(1)
        return pl.Series(ids * values.is_not_null().to_numpy(), dtype=pl.Int32)

    def count(self, staged: pl.Series, weights: Int64s | None = None) -> None:
        pass

    def finish(self, min_count: int) -> None:
        pass

    def encode(self, staged: pl.Series) -> pl.Series:
        return staged

    @property
    def cardinality(self) -> int:
        return self._cardinality


Vocabulary = TextVocabulary | TokenVocabulary
IdRule = Vocabulary | HashIds  # how values become ids


def save_vocabulary(table: pl.DataFrame, path: Path) -> None:
    """Writes the columns value, id and count as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = table.select("value", "id", "count").to_arrow(compat_level=pl.CompatLevel.oldest())
    pq.write_table(columns, path, compression="zstd")


def load_vocabulary(path: Path) -> Vocabulary:
    """Reads a file of `save_vocabulary`; the type of `value` tells text from tokens."""
    try:
        table = pl.DataFrame(pl.from_arrow(pq.read_table(path)))
    except (OSError, pa.ArrowException) as error:
        raise RecsysError("invalid vocabulary file", where=path, got=error) from None
    if table["value"].dtype == pl.String:
        return TextVocabulary().load(table)
    return TokenVocabulary().load(table)


def _ranked(counted: pl.DataFrame) -> pl.DataFrame:
    """The rows in descending order of count, then by value, with ids from 1."""
    ordered = counted.sort(["count", "value"], descending=[True, False])
    return ordered.with_columns(id=pl.int_range(1, len(ordered) + 1, dtype=pl.Int32, eager=True))


def _empty_table(value_dtype: pl.DataType) -> pl.DataFrame:
    return pl.DataFrame(schema={"value": value_dtype, "count": pl.Int64, "id": pl.Int32})


def grown(values: np.ndarray, size: int) -> np.ndarray:
    """The array, padded with zeros to at least `size`; its length is doubled at least."""
    if size <= len(values):
        return values
    grown = np.zeros(max(size, 2 * len(values)), values.dtype)
    grown[: len(values)] = values
    return grown
