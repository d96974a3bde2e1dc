"""Lines in the formats of libsvm, libFM and libffm as tables.

`label index:value …` has the columns `indices` (the list of a row's indices), `entry_1`, `entry_2`,
… (the index of the k-th entry, if all rows have the same number of entries) and, for at most 1,000
indices, `index_N` (the value of index N, a number). `label field:index:value …` has a column
`field_N` for each field: its index, its indices as a list under `sequence.columns`, or its value
under `numerical.columns`. `qid:N` is the column `qid`. Entries that would be lost are errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.reading.chunks import Dtypes, NumberedFrame, prefetch
from data_pipelines.reading.text import Block, block_lines, read_blocks
from data_pipelines.rules.files import FileFormat
from recsys.errors import RecsysError

MAX_INDEX_COLUMNS = 1000
SLICE_ROWS = 1 << 16
LABEL, QID, INDICES = "label", "qid", "indices"


@dataclass
class FileFacts:
    """Properties that all rows of a file must share, set by the first row that has them."""

    path: Path
    has_fields: bool | None = None  # whether the entries are field:index:value
    num_entries: int | None = None
    index_of: dict[str, int] = field(default_factory=dict)  # of numerical fields

    def row(self, number: int) -> str:
        """Where a data row is."""
        return f"{self.path}, data row {number}"


@dataclass(frozen=True)
class SparseRows:
    """Some rows: their labels and qids as text (null if missing), and their entries.

    `entries` has the columns row (from 0), place (in its row, from 0), field (null in libsvm
    lines), index and value.
    """

    size: int
    labels: pl.Series
    qids: pl.Series
    entries: pl.DataFrame


def sparse_columns(path: Path, file: FileFormat) -> list[str]:
    """The columns of the recipe, or of the first rows of the file."""
    if file.columns:
        return list(file.columns)
    block = next(read_blocks(path, file.as_lines()), None)
    if block is None:
        raise RecsysError("the file is empty", where=path, fix="pass a file with rows")
    facts = FileFacts(path)
    rows = next(_slices(block, facts, file))[1]
    names = [LABEL] * (rows.labels.null_count() < rows.size)
    names += [QID] * (rows.qids.null_count() < rows.size)
    if facts.has_fields:
        return names + [f"field_{n}" for n in rows.entries["field"].unique().sort()]
    places = rows.entries.group_by("row").len()["len"]
    is_even = len(places) == rows.size and places.n_unique() == 1
    entries = [f"entry_{k + 1}" for k in range(int(places[0]))] if is_even else []
    indices = rows.entries["index"].unique().sort()
    known = [f"index_{n}" for n in indices] if len(indices) <= MAX_INDEX_COLUMNS else []
    return [*names, INDICES, *entries, *known]


def read_sparse(
    path: Path, file: FileFormat, columns: list[str], dtypes: Dtypes, is_list: set[str]
) -> Iterator[NumberedFrame]:
    """Yields the columns in `dtypes`: text, lists of text for `is_list`, and numbers."""
    facts = FileFacts(path)

    def slices() -> Iterator[tuple[int, SparseRows]]:
        for block in read_blocks(path, file.as_lines()):
            yield from _slices(block, facts, file)

    for first_row, rows in prefetch(slices()):
        reader = _ColumnReader(rows, facts, first_row)
        reader.check_known(columns, list(dtypes))
        yield (
            first_row,
            pl.DataFrame([reader.column(n, t, n in is_list).alias(n) for n, t in dtypes.items()]),
        )


def _slices(block: Block, facts: FileFacts, file: FileFormat) -> Iterator[tuple[int, SparseRows]]:
    """Yields parsed slices of a block, since an entry takes more memory than its text."""
    lines = block_lines(block, facts.path, file)
    for start in range(0, len(lines), SLICE_ROWS):
        first_row = block.first_row + start
        yield first_row, _parse(lines.slice(start, SLICE_ROWS), facts, first_row)


def _parse(lines: pl.Series, facts: FileFacts, first_row: int) -> SparseRows:
    words = lines.str.replace(r"#.*", "").str.extract_all(r"[^ \t\r]+")
    frame = pl.DataFrame({"row": np.arange(len(lines), dtype=np.int64), "word": words})
    blank = frame["word"].list.len() == 0
    if blank.any():
        raise RecsysError("the line is empty", where=facts.row(first_row + blank.arg_true()[0]))
    first = frame["word"].list.first()
    has_label = ~first.str.contains(":", literal=True)
    wrong = has_label & first.cast(pl.Float64, strict=False).is_null()
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise RecsysError(
            "the line does not begin with a label",
            where=facts.row(first_row + row),
            expected="a number, then index:value … or field:index:value …",
            got=repr(first[row]),
        )
    entries = frame.explode("word").with_columns(
        place=pl.int_range(pl.len()).over("row") - pl.lit(has_label).gather(pl.col("row"))
    )
    entries = entries.filter(pl.col("place") >= 0)
    is_qid = entries["word"].str.starts_with("qid:")
    qids = (
        entries.filter(is_qid)
        .unique("row", keep="first", maintain_order=True)
        .select("row", pl.col("word").str.slice(4))
    )
    entries = entries.filter(~is_qid).with_columns(
        pl.col("place") - pl.lit(np.isin(np.arange(len(lines)), qids["row"])).gather("row")
    )
    return SparseRows(
        size=len(lines),
        labels=pl.select(pl.when(has_label).then(first)).to_series(),
        qids=_spread(qids["row"], qids["word"], len(lines)),
        entries=_numbers(entries, facts, first_row),
    )


def _numbers(entries: pl.DataFrame, facts: FileFacts, first_row: int) -> pl.DataFrame:
    """The words as numbers: field, index and value; all rows must have entries of one kind."""
    parts = entries["word"].str.splitn(":", 3).struct.unnest()
    has_field = parts["field_2"].is_not_null()
    if facts.has_fields is None and len(has_field):
        facts.has_fields = bool(has_field[0])
    is_field = bool(facts.has_fields)
    index, value = ("field_1", "field_2") if is_field else ("field_0", "field_1")
    numbers = entries.select("row", "place").with_columns(
        field=parts["field_0"].cast(pl.UInt64, strict=False)
        if is_field
        else pl.lit(None, pl.UInt64),
        index=parts[index].cast(pl.UInt64, strict=False),
        value=parts[value].cast(pl.Float64, strict=False),
    )
    good = (has_field == is_field) & numbers["index"].is_not_null() & numbers["value"].is_finite()
    if is_field:
        good &= numbers["field"].is_not_null()
    good = good.fill_null(False)
    if not good.all():
        at = int((~good).arg_true()[0])
        raise RecsysError(
            "invalid entry",
            where=facts.row(first_row + numbers["row"][at]),
            expected="field:index:value" if is_field else "index:value",
            got=repr(entries["word"][at]),
            fix="fields and indices must be integers from 0, values must be numbers, and all rows "
            "must have entries of the same kind",
        )
    return numbers


def _spread(rows: pl.Series, values: pl.Series, size: int) -> pl.Series:
    """A column of `size` rows with the values at their rows, null elsewhere."""
    places = np.zeros(size, np.uint32)
    places[rows.to_numpy()] = np.arange(1, len(rows) + 1, dtype=np.uint32)
    return values.extend_constant(None, 1).gather(
        pl.Series(np.where(places == 0, len(rows), places.astype(np.int64) - 1))
    )


class _ColumnReader:
    """Makes the columns of some rows; errors name the row with an entry that does not fit."""

    def __init__(self, rows: SparseRows, facts: FileFacts, first_row: int) -> None:
        self.rows, self.facts, self.first_row = rows, facts, first_row
        self.entries = rows.entries

    def check_known(self, columns: list[str], wanted: list[str]) -> None:
        """Raises RecsysError for an entry that belongs to no column, since it would be lost."""
        kind = "field" if self.facts.has_fields else "index"
        if kind == "index" and not any(name.startswith("index_") for name in wanted):
            return
        known = [int(c.removeprefix(f"{kind}_")) for c in columns if _is_numbered(c, kind)]
        unknown = ~self.entries[kind].is_in(known)
        if unknown.any():
            at = int(unknown.arg_true()[0])
            raise self._error(
                f"{kind}_{self.entries[kind][at]} is not among the columns of the first rows",
                at,
                fix="list all columns of the file under file.columns: [label, …]",
            )

    def column(self, name: str, dtype: pl.DataType, is_list: bool) -> pl.Series:
        """One column; null in rows without such an entry."""
        if name in (LABEL, QID):
            return self.rows.labels if name == LABEL else self.rows.qids
        chosen = self.entries.with_row_index("at")
        if name != INDICES:
            kind, _, number = name.partition("_")
            if kind == "entry":
                self._check_places()
                chosen = chosen.filter(pl.col("place") == int(number) - 1)
            else:
                chosen = chosen.filter(pl.col(kind) == int(number))
        if dtype.is_float():
            return self._values(chosen, name)
        return self._indices(chosen, name, is_list or name == INDICES)

    def _values(self, chosen: pl.DataFrame, name: str) -> pl.Series:
        self._check_single(chosen, name, "numerical")
        if name.startswith("field_") and len(chosen):
            index = self.facts.index_of.setdefault(name, int(chosen["index"][0]))
            other = chosen.filter(pl.col("index") != index)
            if len(other):
                raise self._error(
                    f"{name} has values of several indices", int(other["at"][0]), fix=_AS_TOKENS
                )
        return _spread(chosen["row"], chosen["value"], self.rows.size)

    def _indices(self, chosen: pl.DataFrame, name: str, is_list: bool) -> pl.Series:
        weighted = chosen.filter(pl.col("value") != 1)
        if len(weighted):
            raise self._error(
                f"a value of {name} is not 1 and would be lost",
                int(weighted["at"][0]),
                fix="list field_N or index_N under numerical.columns to read values",
            )
        chosen = chosen.with_columns(pl.col("index").cast(pl.String))
        if is_list:
            lists = chosen.group_by("row", maintain_order=True).agg("index")
            return _spread(lists["row"], lists["index"], self.rows.size)
        self._check_single(chosen, name, "categorical")
        return _spread(chosen["row"], chosen["index"], self.rows.size)

    def _check_single(self, chosen: pl.DataFrame, name: str, kind: str) -> None:
        twice = chosen.filter(~pl.col("row").is_first_distinct())
        if len(twice):
            raise self._error(
                f"the {kind} column {name} has several values in a row",
                int(twice["at"][0]),
                fix="list it under sequence.columns",
            )

    def _check_places(self) -> None:
        counts = np.bincount(self.entries["row"].to_numpy(), minlength=self.rows.size)
        if self.facts.num_entries is None:
            self.facts.num_entries = int(counts[0])
        wrong = np.flatnonzero(counts != self.facts.num_entries)
        if len(wrong):
            raise RecsysError(
                "entry_1, entry_2, … need rows with the same number of entries",
                where=self.facts.row(self.first_row + int(wrong[0])),
                expected=f"{self.facts.num_entries} entries, as in data row 1",
                got=int(counts[wrong[0]]),
                fix="use the column indices under sequence.columns",
            )

    def _error(self, what: str, at: int, fix: str) -> RecsysError:
        entry = self.entries.row(at, named=True)
        field = [] if entry["field"] is None else [str(entry["field"])]
        return RecsysError(
            what,
            where=self.facts.row(self.first_row + entry["row"]),
            got=":".join([*field, str(entry["index"]), f"{entry['value']:g}"]),
            fix=fix,
        )


_AS_TOKENS = "list it under categorical.columns or sequence.columns"


def _is_numbered(name: str, kind: str) -> bool:
    return name.startswith(f"{kind}_") and name.removeprefix(f"{kind}_").isdecimal()
