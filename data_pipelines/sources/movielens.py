"""MovieLens-1M: ratings joined with users and movies ('::' separated, latin-1, plain or gzipped).

A rating of 4 or 5 is a positive, 1 or 2 a negative, 3 is dropped (label.rule). Group: the user.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.reading.blocks import Block, existing_file, prefetch, read_blocks
from data_pipelines.reading.csv_tables import Dtypes, check_columns
from data_pipelines.recipe import Categorical, Label, Recipe, SequenceColumns, Threshold
from data_pipelines.rules.events import Events, Targets
from data_pipelines.rules.file_format import FileFormat
from data_pipelines.rules.splits import ByGroup
from data_pipelines.sources.keyed_table import KeyedTable
from data_pipelines.sources.table import NumberedFrame
from recsys.errors import RecsysError

RATINGS = ("user", "movie", "rating", "time")
USERS = ("user", "gender", "age", "occupation", "zip")
MOVIES = ("movie", "title", "genres")
DAT = FileFormat(separator="\t", quote=None, header=False, encoding="latin-1")

MOVIELENS_1M = Recipe(
    name="movielens_1m",
    source="movielens_1m",
    label=Label(column="rating", rule=Threshold(positive=4, negative=2)),
    categorical=Categorical(columns=("user", "movie", "gender", "age", "occupation", "zip")),
    sequence=SequenceColumns(columns=("genres",), separator="|"),
    group="user",
)

# The user's earlier movies of 4 and 5 stars beside the same labels; users stay whole, as in DIN.
MOVIELENS_1M_HISTORY = MOVIELENS_1M.model_copy(
    update={
        "name": "movielens_1m_history",
        "categorical": Categorical(columns=("movie", "gender", "age", "occupation", "zip")),
        "events": Events(
            item="movie",
            action="rating",
            behaviours=("4", "5"),
            item_features=("genres",),
            targets=Targets(min_history=0),
            negatives=None,
        ),
        "split": ByGroup(),
    }
)


class MovieLensSource:
    """Raw: the folder with the three files, or a ratings file with the other two beside it."""

    def files(self, raw: list[Path]) -> list[Path]:
        return [_find(path, "ratings") if path.is_dir() else existing_file(path) for path in raw]

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        return list(dict.fromkeys((*RATINGS, *USERS, *MOVIES)))

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        tables = [_table(path.parent, "users", USERS), _table(path.parent, "movies", MOVIES)]
        for row, frame in prefetch(_read(path, RATINGS)):
            for table in tables:
                frame = table.join(frame)
            yield row, frame.select(pl.col(name).cast(dtype) for name, dtype in dtypes.items())
        for table in tables:
            table.check_matches()


def _table(folder: Path, what: str, names: tuple[str, ...]) -> KeyedTable:
    """Users or movies, by their first column."""
    path = _find(folder, what)
    table = pl.concat([frame for _, frame in _read(path, names)])
    return KeyedTable(path.name, names[:1], [table[names[0]]], table.select(names[1:]))


def _find(folder: Path, what: str) -> Path:
    """The one file of the folder whose name holds `what`."""
    found = sorted(folder.glob(f"*{what}.dat*"))
    if len(found) != 1:
        raise RecsysError(
            f"the {what} file is missing" if not found else f"there are several {what} files",
            where=folder,
            expected=f"one file named {what}.dat, *{what}.dat or *{what}.dat.gz",
            got=", ".join(p.name for p in found) or None,
        )
    return found[0]


def _read(path: Path, names: tuple[str, ...]) -> Iterator[NumberedFrame]:
    """A '::' separated file, all columns text."""
    for block in read_blocks(path, DAT):
        data = block.data.replace(b"::", b"\t")
        block = Block(data, block.rows, block.first_row)
        check_columns(block, DAT, len(names), path)
        frame = pl.read_csv(
            data,
            has_header=False,
            separator="\t",
            quote_char=None,
            schema=dict.fromkeys(names, pl.String()),
        )
        yield block.first_row, frame
