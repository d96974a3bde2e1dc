"""MovieLens-1M: ratings with the columns of users and movies ("::" separated, latin-1).

Ratings of 4 and 5 have label 1, ratings of 1 and 2 label 0, and those of 3 are dropped
(`label.rule`). The group is the user.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.reading.chunks import Dtypes, NumberedFrame, prefetch
from data_pipelines.reading.csv_tables import check_columns, parse_block
from data_pipelines.reading.files import existing_file
from data_pipelines.reading.text import Block, read_blocks
from data_pipelines.recipe import Events, Recipe, Targets
from data_pipelines.rules.columns import Categorical, Label, SequenceColumns, Threshold
from data_pipelines.rules.files import FileFormat
from data_pipelines.rules.splits import ByGroup
from data_pipelines.source import DataSource
from data_pipelines.sources.keyed_table import KeyedTable
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

# The same labels, with the user's earlier movies of 4 and 5 stars; split by user, as in DIN.
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
    """Raw files: the folder of the three files, or a ratings file in the folder of the others."""

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
    """Users or movies, with the first column as key."""
    path = _find(folder, what)
    table = pl.concat([frame for _, frame in _read(path, names)])
    return KeyedTable(path.name, names[:1], [table[names[0]]], table.select(names[1:]))


def _find(folder: Path, what: str) -> Path:
    """The only file of the folder whose name contains `what`."""
    found = sorted(folder.glob(f"*{what}.dat*"))
    if len(found) != 1:
        raise RecsysError(
            f"several {what} files" if found else f"{what} file not found",
            where=folder,
            expected=f"one file named {what}.dat, *{what}.dat or *{what}.dat.gz",
            got=", ".join(p.name for p in found) or None,
        )
    return found[0]


def _read(path: Path, names: tuple[str, ...]) -> Iterator[NumberedFrame]:
    """Yields the columns of a "::" separated file as text."""
    for block in read_blocks(path, DAT):
        data = block.data.replace(b"::", b"\t")
        block = Block(data, block.rows, block.first_row)
        check_columns(block, DAT, len(names), path)
        dtypes: Dtypes = dict.fromkeys(names, pl.String())
        yield block.first_row, parse_block(block, DAT, list(names), dtypes, path)


MOVIELENS = DataSource(
    datasets=(MOVIELENS_1M, MOVIELENS_1M_HISTORY), readers={"movielens_1m": MovieLensSource()}
)
