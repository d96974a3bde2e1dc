"""The `time:` section of a recipe: columns of moments that become an hour and a weekday."""

from typing import Literal

from pydantic import Field

from recsys.config.base import BaseConfig
from recsys.schema import Hour, TimeUnit, Weekday

Part = Literal["hour", "weekday"]


class TimeColumns(BaseConfig):
    """Columns of moments, in UTC unless a value says its zone; names or wildcards.

    Each gives a categorical feature for each of `parts`, COLUMN_hour and COLUMN_weekday. Values are
    text in ISO 8601, typed dates and times, or numbers: `unit`s since 1970.
    """

    columns: tuple[str, ...] = ()
    parts: tuple[Part, ...] = Field(("hour", "weekday"), min_length=1)
    unit: TimeUnit = "s"

    def transforms(self, column: str) -> dict[str, Hour | Weekday]:
        """Feature name → what makes it of the column."""
        made: dict[Part, Hour | Weekday] = {
            "hour": Hour(unit=self.unit),
            "weekday": Weekday(unit=self.unit),
        }
        return {f"{column}_{part}": made[part] for part in self.parts}
