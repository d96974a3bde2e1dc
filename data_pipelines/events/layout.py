"""The layout of event logs: the plan of their columns, and the columns of staged events."""

import dataclasses
from dataclasses import dataclass

import polars as pl

from data_pipelines.recipe import Events
from data_pipelines.rules.columns import FeaturePlan

# Staged columns; the event columns of the plan follow.
USER, ITEM, TIME = "#user", "#item", "#time"
IS_BEHAVIOR, IS_TARGET, LABEL = "#behavior", "#target", "#label"


@dataclass(frozen=True)
class EventPlan:
    """The columns of an event log, and the features that are made of them."""

    rules: Events
    features: tuple[FeaturePlan, ...]  # of the target, then the histories
    histories: dict[str, str]  # history feature → column
    item_columns: tuple[str, ...]  # columns that belong to the item, without the item itself
    event_columns: tuple[str, ...]  # columns that belong to the event
    dtypes: dict[str, pl.DataType]  # canonical types of all columns, including the item table

    def of_raw_columns(self) -> "EventPlan":
        """The plan for rows with the raw columns of the features instead of the features."""
        by_column = {f.column: dataclasses.replace(f, name=f.column) for f in self.features}
        return dataclasses.replace(self, features=tuple(by_column.values()))

    @property
    def has_labels(self) -> bool:
        """Whether the log has labels; otherwise negatives are drawn."""
        return self.rules.negatives is None
