"""An event-log recipe against the log's columns: features, histories, and where each value lies."""

import dataclasses
from dataclasses import dataclass

import polars as pl

from data_pipelines.plan import FeaturePlan, Plan, make_plan, resolve
from data_pipelines.recipe import Categorical, Recipe
from data_pipelines.rules.events import Events
from data_pipelines.rules.splits import ByTime
from recsys.errors import RecsysError
from recsys.schema import Hour, Weekday


@dataclass(frozen=True)
class EventPlan:
    """What is read of a log, and what is made of it."""

    rules: Events
    features: tuple[FeaturePlan, ...]  # those of the target, then the histories
    histories: dict[str, str]  # history feature → column
    item_columns: tuple[str, ...]  # values that belong to the item, beside the item itself
    event_columns: tuple[str, ...]  # values that belong to the event
    dtypes: dict[str, pl.DataType]  # canonical types of all columns, the item table's too

    def of_raw_columns(self) -> "EventPlan":
        """The plan whose rows hold the columns that features are made from, each once."""
        by_column = {f.column: dataclasses.replace(f, name=f.column) for f in self.features}
        return dataclasses.replace(self, features=tuple(by_column.values()))

    @property
    def has_labels(self) -> bool:
        """Whether the log says what is positive; else negatives are drawn."""
        return self.rules.negatives is None


def make_event_plan(
    recipe: Recipe, log_columns: list[str], table_columns: list[str], keep_user: bool = False
) -> EventPlan:
    """Resolves every name of the recipe against the columns of the log and of the item table.

    `keep_user` keeps the users' names, not only their hashes.
    """
    rules = recipe.events
    assert rules is not None
    columns = list(dict.fromkeys([*log_columns, *table_columns]))
    _check_columns(recipe, rules, log_columns, columns)
    plan = make_plan(_row_recipe(recipe, rules), columns)
    _check_times(rules, plan, log_columns)
    histories = _histories(rules, plan)
    item_columns = [c for c in rules.item_features if _is_used(c, plan, histories)]
    used = [*(f.column for f in plan.features), *histories.values()]
    used += [rules.user] if keep_user else []
    event_columns = [c for c in dict.fromkeys(used) if c not in (rules.item, *item_columns)]
    _check_in_log(event_columns, log_columns)
    return EventPlan(
        rules=rules,
        features=(*plan.features, *_history_features(recipe, rules, plan, histories)),
        histories=histories,
        item_columns=tuple(item_columns),
        event_columns=tuple(event_columns),
        dtypes=_dtypes(recipe, rules, plan),
    )


def _row_recipe(recipe: Recipe, rules: Events) -> Recipe:
    """The recipe of the target's own columns; unless it names features, the item and its own."""
    update: dict[str, object] = {"events": None, "group": rules.user}
    named = (recipe.numerical.columns, recipe.categorical.columns, recipe.sequence.columns)
    if not any(named):
        update["categorical"] = Categorical(columns=(rules.item, *rules.item_features))
    if isinstance(recipe.split, ByTime):
        update["split"] = recipe.split.model_copy(update={"column": None})
    return recipe.model_copy(update=update)


def _check_columns(recipe: Recipe, rules: Events, log: list[str], columns: list[str]) -> None:
    for key in ("user", "item", "time", "action"):
        if name := getattr(rules, key):
            resolve([name], log, f"events.{key}", set())
    for name in rules.item_features:
        resolve([name], columns, "events.item_features", set())
    if rules.negatives is None:
        resolve([recipe.label.column], log, "label.column", set())
    if (rules.behaviours or rules.targets.actions) and not rules.action:
        raise RecsysError(
            "the recipe chooses actions but names no action column",
            where="events.action",
            expected=f"one of {', '.join(log)}",
        )


def _check_times(rules: Events, plan: Plan, log: list[str]) -> None:
    """Moments are numbers, read with the log's rows."""
    for column in (f.column for f in plan.features if isinstance(f.transform, Hour | Weekday)):
        if column in (rules.user, rules.item, rules.action) or column not in log:
            raise RecsysError(
                f"the column {column!r} cannot give an hour or a weekday",
                where="time.columns",
                expected="a column of the log or of a table under join, and not events.user, "
                "events.item or events.action",
            )


def check_item_columns(plan: EventPlan, of_item: set[str]) -> None:
    """Columns joined by the item are the item's: a negative must not have those of its target."""
    for name in plan.event_columns:
        if name in of_item:
            raise RecsysError(
                f"the column {name!r} is joined by the item, but is no item feature",
                where="events.item_features",
                fix=f"add {name} there",
            )


def _check_in_log(event_columns: list[str], log: list[str]) -> None:
    for name in event_columns:
        if name not in log:
            raise RecsysError(
                f"the column {name!r} of the item table is no item feature",
                where="events.item_features",
                fix=f"add {name} there",
            )


def _histories(rules: Events, plan: Plan) -> dict[str, str]:
    """History feature → its column, which must be a categorical feature that has its own ids."""
    owners = {f.column: f for f in plan.features if f.kind == "categorical" and f.name == f.column}
    wanted = rules.histories
    if wanted is None:
        wanted = tuple(c for c in (rules.item, *rules.item_features) if c in owners)
    for column in wanted:
        if column not in owners or owners[column].transform is not None:
            raise RecsysError(
                f"{column!r} can have no history",
                where="events.histories",
                expected=f"one of {', '.join(owners)}",
                fix="a history holds the values of a categorical feature, which must be there too",
            )
        if f"{column}_history" in (f.name for f in plan.features):
            raise RecsysError(f"the log has a column named {column}_history itself")
    return {f"{column}_history": column for column in wanted}


def _history_features(
    recipe: Recipe, rules: Events, plan: Plan, histories: dict[str, str]
) -> list[FeaturePlan]:
    owners = {f.name: f for f in plan.features}
    return [
        dataclasses.replace(
            owners[column],
            name=name,
            column=name,
            kind="sequence",
            separator=recipe.sequence.separator,
            max_length=rules.max_length,
        )
        for name, column in histories.items()
    ]


def _is_used(column: str, plan: Plan, histories: dict[str, str]) -> bool:
    return column in histories.values() or any(f.column == column for f in plan.features)


def _dtypes(recipe: Recipe, rules: Events, plan: Plan) -> dict[str, pl.DataType]:
    dtypes = dict(plan.dtypes)
    if rules.negatives is not None:
        dtypes.pop(recipe.label.column, None)
    for name in (rules.user, rules.item, rules.time, rules.action):
        if name:
            dtypes.setdefault(name, pl.String())
    return dtypes
