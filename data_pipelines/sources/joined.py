"""Rows with the columns of joined tables."""

import fnmatch
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from data_pipelines.reading.chunks import Dtypes, NumberedFrame
from data_pipelines.reading.files import expand_paths
from data_pipelines.recipe import Recipe
from data_pipelines.rules.files import FileFormat, Join
from data_pipelines.source import Source
from data_pipelines.sources.keyed_table import KeyedTable
from data_pipelines.sources.table import (
    bound_numbers,
    check_columns_exist,
    detect_format,
    read_table,
    table_columns,
)
from data_pipelines.sources.timed import TimedSource
from recsys.config.name_patterns import all_matching
from recsys.errors import RecsysError
from recsys.io.memory import check_memory
from recsys.schema import JoinCounts


class TableFiles:
    """The files of one joined table, and the columns that it adds."""

    def __init__(self, rule: Join, recipe: Recipe, paths: list[Path]) -> None:
        self.rule, self.paths, self._recipe = rule, paths, recipe
        self._file = rule.file or _like_rows(recipe.file)
        self.name = ", ".join(path.name for path in paths)
        columns = table_columns(paths[0], detect_format(paths[0], self._file), "")
        key = "join.table_key" if rule.table_key else "join.key"
        for where, names in ((key, rule.own_key), ("join.columns", rule.columns)):
            check_columns_exist(names, columns, f"{where}, {paths[0]}")
        added = rule.columns or tuple(c for c in columns if c not in rule.own_key)
        self.own_name = {f"{rule.prefix}{column}": column for column in added}

    def load(self, dtypes: Dtypes) -> KeyedTable:
        """Loads the table into memory, with its columns that are in `dtypes`."""
        wanted = {name: own for name, own in self.own_name.items() if name in dtypes}
        table = pl.concat(self._frames(wanted, dtypes))
        columns = pl.DataFrame([table[own].alias(name) for name, own in wanted.items()])
        keys = [table[name] for name in self.rule.own_key]
        return KeyedTable(self.name, self.rule.key, keys, columns)

    def _frames(self, wanted: dict[str, str], dtypes: Dtypes) -> Iterator[pl.DataFrame]:
        own_dtypes: Dtypes = {own: dtypes[name] for name, own in wanted.items()}
        own_dtypes |= dict.fromkeys(self.rule.own_key, pl.String())
        lists = all_matching(self._recipe.sequence.columns, wanted)
        own_sequence = self._recipe.sequence.model_copy(
            update={"columns": tuple(glob.escape(wanted[n]) for n in wanted if n in lists)}
        )
        size: int | float = 0
        for path in self.paths:
            file = detect_format(path, self._file)
            columns = table_columns(path, file, "")
            check_columns_exist(own_dtypes, columns, f"join, {path}")
            for row, frame in read_table(path, file, columns, own_dtypes, own_sequence):
                size += frame.estimated_size()
                check_memory(
                    int(size),
                    "a joined table",
                    where=path,
                    fix="list fewer columns under join.columns",
                )
                yield bound_numbers(frame, self._recipe.numerical.out_of_range, path, row)


class JoinedSource:
    """The rows of another source with the columns of the tables under `join`."""

    def __init__(self, inner: Source, recipe: Recipe, raw: Sequence[Path]) -> None:
        self._inner, self._joins = inner, recipe.join
        files = expand_paths(list(raw))
        self._files = [
            TableFiles(rule, recipe, _matching(files, rule) or _no_table(rule, raw))
            for rule in recipe.join
        ]
        self._tables: dict[int, KeyedTable] = {}

    def files(self, raw: list[Path]) -> list[Path]:
        rows = [p for path in raw for p in self._rows_of(path)]
        if not rows:
            raise RecsysError(
                "all raw files are joined tables; the file with the rows is missing",
                where=", ".join(map(str, raw)),
                fix="add the file with the rows to --raw, or change join.files",
            )
        return self._inner.files(rows)

    def _rows_of(self, path: Path) -> list[Path]:
        """The files that are not tables; a folder without tables is left to the inner source."""
        files = expand_paths([path])
        rows = [p for p in files if not any(_matching([p], rule) for rule in self._joins)]
        return [path] if len(rows) == len(files) else rows

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        columns = self._inner.columns(recipe, path)
        for table in self._files:
            check_columns_exist(table.rule.key, columns, f"join.key, {path}")
            for name in table.own_name:
                if name in columns:
                    raise RecsysError(
                        f"the rows and a joined table both have a column {name!r}",
                        where=f"{path} and {table.name}",
                        fix="list other columns under join.columns, or set join.prefix",
                    )
            columns = [*columns, *table.own_name]
        return columns

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        self.columns(recipe, path)  # files may have different columns
        tables, row_dtypes = self._needed(dtypes)
        for row, frame in self._inner.read(recipe, path, row_dtypes):
            for table in tables:
                frame = table.join(frame)
            yield row, pl.DataFrame([frame[name] for name in dtypes])
        for table in tables:
            table.check_matches()

    def _needed(self, dtypes: Dtypes) -> tuple[list[KeyedTable], Dtypes]:
        """The tables that the columns need, in order, and the columns needed of the rows."""
        wanted = dict(dtypes)
        numbers: list[int] = []
        for number, files in reversed(list(enumerate(self._files))):
            if not wanted.keys() & files.own_name.keys():
                continue
            numbers.insert(0, number)
            if number not in self._tables:
                self._tables[number] = files.load(wanted)
            wanted = {name: dtype for name, dtype in wanted.items() if name not in files.own_name}
            for name in files.rule.key:
                if wanted.setdefault(name, pl.String()) != pl.String():
                    raise RecsysError(
                        f"the column {name!r} is numerical and the key of a joined table",
                        where="join.key",
                        fix="list the column under categorical.columns",
                    )
        return [self._tables[number] for number in numbers], wanted

    def columns_of(self, column: str) -> set[str]:
        """The joined columns that depend on this column alone."""
        found = {column}
        for table in self._files:
            if set(table.rule.key) <= found:
                found |= table.own_name.keys()
        return found - {column}

    def counts(self) -> tuple[JoinCounts, ...]:
        """How many keys of the rows and of the tables match."""
        return tuple(table.counts() for _, table in sorted(self._tables.items()))

    def warnings(self) -> tuple[str, ...]:
        """Warnings about the joins, after the rows have been read."""
        tables = [table for _, table in sorted(self._tables.items())]
        return tuple(warning for table in tables for warning in table.warnings())


def joined_part(source: Source) -> JoinedSource | None:
    """The part of an opened source that joins tables, if any."""
    inner = source.inner if isinstance(source, TimedSource) else source
    return inner if isinstance(inner, JoinedSource) else None


def joined_source(
    inner: Source, recipe: Recipe, raw: Sequence[Path], may_be_joined: bool = False
) -> Source:
    """Returns `inner`, or a source that joins tables to its rows if the recipe has any.

    `may_be_joined`: if no table is among the raw files, their rows have the joined columns already.
    """
    if not recipe.join:
        return inner
    if may_be_joined:
        files = expand_paths(list(raw))
        if not any(_matching(files, rule) for rule in recipe.join):
            return inner
    return JoinedSource(inner, recipe, raw)


def _like_rows(file: FileFormat) -> FileFormat:
    """The default format of a table: text like the rows, but with a header."""
    return file.model_copy(update={"columns": (), "header": None, "format": "text"})


def _matching(files: list[Path], rule: Join) -> list[Path]:
    return [p for p in files if any(fnmatch.fnmatchcase(p.name, x) for x in rule.files)]


def _no_table(rule: Join, raw: Sequence[Path]) -> list[Path]:
    raise RecsysError(
        f"table with the key {', '.join(rule.key)} not found among the raw files",
        where=", ".join(map(str, raw)),
        expected=f"a file named {' or '.join(rule.files)} (join.files)",
        fix="pass both: --raw ROWS --raw TABLE, or a folder with both",
    )
