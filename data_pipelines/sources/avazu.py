"""Avazu click logs (Kaggle): CSV with a header. The column `hour` (YYMMDDHH) gives 3 features.

hour: its last two characters. weekday: 0 is Sunday. weekend: 1 on Saturday and Sunday. `time` is
YYMMDDHH. `id` is not used. The default split is random, because small samples have too few hours
for a split by time; for the full file use `split.method=by_time split.column=time`.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.reading.chunks import Dtypes, NumberedFrame
from data_pipelines.recipe import Recipe
from data_pipelines.rules.columns import Categorical, Label
from data_pipelines.rules.splits import StratifiedFolds
from data_pipelines.source import DataSource
from data_pipelines.sources.table import TableSource
from recsys.errors import RecsysError

FIELDS = (
    *("C1", "banner_pos", "site_id", "site_domain", "site_category"),
    *("app_id", "app_domain", "app_category", "device_id", "device_ip", "device_model"),
    *("device_type", "device_conn_type"),
    *(f"C{i}" for i in range(14, 22)),
)
DERIVED = ("hour", "weekday", "weekend")

KAGGLE = Recipe(
    name="avazu",
    source="avazu",
    label=Label(column="click"),
    categorical=Categorical(columns=(*DERIVED, *FIELDS)),
)
X4_001 = KAGGLE.model_copy(
    update={"name": "avazu_x4_001", "min_count": 2, "split": StratifiedFolds()}
)
X4_002 = X4_001.model_copy(update={"name": "avazu_x4_002", "min_count": 1})


class AvazuSource(TableSource):
    """The Kaggle CSV with the features of the time."""

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        return [*super().columns(recipe, path), "time", "weekday", "weekend"]

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        made = {"time", "weekday", "weekend"}
        raw_dtypes = {name: dtype for name, dtype in dtypes.items() if name not in made}
        raw_dtypes["hour"] = pl.String()
        table = TableSource()
        for row, frame in table.read(recipe, path, raw_dtypes):
            yield row, _with_time(frame, path, row).select(list(dtypes))


def _with_time(frame: pl.DataFrame, path: Path, first_row: int) -> pl.DataFrame:
    stamp = pl.col("hour")
    day = stamp.str.slice(0, 6).str.to_date("%y%m%d", strict=False).dt.weekday() % 7
    derived = frame.with_columns(
        time=stamp,
        hour=stamp.str.slice(6, 2),
        weekday=day.cast(pl.String),
        weekend=day.is_in([0, 6]).cast(pl.Int8).cast(pl.String),
    )
    if derived["weekday"].null_count():
        row = int(derived["weekday"].is_null().arg_true()[0])
        raise RecsysError(
            "invalid time in the column 'hour'",
            where=f"{path}, data row {first_row + row}",
            expected="YYMMDDHH",
            got=repr(frame["hour"][row]),
        )
    return derived


AVAZU = DataSource(datasets=(KAGGLE, X4_001, X4_002), readers={"avazu": AvazuSource()})
