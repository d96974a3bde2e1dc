"""The plan of an event log for given columns: features, histories, and columns of the item."""

import dataclasses
from collections.abc import Collection, Iterable

import polars as pl

from data_pipelines.events.layout import EventPlan
from data_pipelines.plan import Plan, make_plan, resolve
from data_pipelines.recipe import Events, Recipe
from data_pipelines.rules.columns import Categorical, FeaturePlan
from data_pipelines.rules.splits import ByTime
from recsys.errors import RecsysError
from recsys.schema import Hour, Weekday


def make_event_plan(
    recipe: Recipe, log_columns: list[str], table_columns: list[str], keep_user: bool = False
) -> EventPlan:
    """Resolves all names of the recipe in the columns of the log and of the item table.

    `keep_user` keeps the text of users, in addition to their hashes.
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
    in_table = set(columns) - set(log_columns)
    check_item_features(event_columns, in_table, "is in the item table")
    return EventPlan(
        rules=rules,
        features=(*plan.features, *_history_features(recipe, rules, plan, histories)),
        histories=histories,
        item_columns=tuple(item_columns),
        event_columns=tuple(event_columns),
        dtypes=_dtypes(recipe, rules, plan),
    )


def _row_recipe(recipe: Recipe, rules: Events) -> Recipe:
    """The recipe of the target; without listed features it has the item and the item features."""
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
            "events.action must be set if actions are listed",
            where="events.action",
            expected=f"one of {', '.join(log)}",
        )


def _check_times(rules: Events, plan: Plan, log: list[str]) -> None:
    """Checks time columns, which are read as numbers with the rows of the log."""
    for column in (f.column for f in plan.features if isinstance(f.transform, Hour | Weekday)):
        if column in (rules.user, rules.item, rules.action) or column not in log:
            raise RecsysError(
                f"the column {column!r} cannot be a time column",
                where="time.columns",
                expected="a column of the log or of a table under join, other than events.user, "
                "events.item and events.action",
            )


def check_item_features(event_columns: Iterable[str], of_item: Collection[str], why: str) -> None:
    """Columns of the item must be item features: a negative must not have those of its target."""
    for name in event_columns:
        if name in of_item:
            raise RecsysError(
                f"the column {name!r} {why}, but is not an item feature",
                where="events.item_features",
                fix=f"add {name} to events.item_features",
            )


def _histories(rules: Events, plan: Plan) -> dict[str, str]:
    """History feature → its column, which must be a categorical feature with its own ids."""
    owners = {f.column: f for f in plan.features if f.kind == "categorical" and f.name == f.column}
    wanted = rules.histories
    if wanted is None:
        wanted = tuple(c for c in (rules.item, *rules.item_features) if c in owners)
    for column in wanted:
        if column not in owners or owners[column].transform is not None:
            raise RecsysError(
                f"{column!r} cannot have a history",
                where="events.histories",
                expected=f"one of {', '.join(owners)}",
                fix="list the column under categorical.columns too",
            )
        if f"{column}_history" in (f.name for f in plan.features):
            raise RecsysError(
                f"duplicate feature name '{column}_history'", where="events.histories"
            )
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
