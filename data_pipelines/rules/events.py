"""What an event log becomes: which events are behaviours, which are targets, what stands against.

An event is one row of (user, item, time, action). A sample is a target (an event, or an item drawn
as a negative for it) with the histories of its user: the behaviours strictly before the event.
"""

from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from data_pipelines.rules.file_format import FileFormat
from recsys.config.base import BaseConfig


class Targets(BaseConfig):
    """Which events become samples.

    What a split holds out is counted from a user's last target; of the rest, going back in time,
    every `every`-th is a train row, at most `per_user` of them.
    """

    actions: tuple[str, ...] = ()  # none: every action
    every: PositiveInt = 1
    per_user: PositiveInt | None = None
    min_history: NonNegativeInt = 1  # behaviours that must lie before a target


class Negatives(BaseConfig):
    """Items drawn against each target: never one that the user has any event with.

    Sampling `uniform`: each item that is ever a target alike; `popularity`: by how often it is one,
    in the whole log. A draw hangs on the seed, the user and the target's place among its events.
    """

    per_positive: PositiveInt = 1
    sampling: Literal["uniform", "popularity"] = "uniform"
    seed: NonNegativeInt = 1


class ItemTable(FileFormat):
    """Item features that lie in a file of their own: raw files whose names match `files`.

    Tables hold the column `item` and the item features; Parquet, Arrow and ORC are recognized, and
    the keys of `file:` describe text. Amazon's metadata (an object a line) and an object item →
    [attributes] give `category`, the last of the item's list, and `attributes`, all of them joined
    by "|".
    """

    section: ClassVar[str] = "events.items"

    files: tuple[str, ...] = ("*item*", "meta*")
    item: str = "item"


class Events(BaseConfig):
    """Makes samples with histories of a log; column names are those of the raw file.

    Attributes:
        time: a number or a date; null: each user's events lie in order.
        ties: whether events of one time are in each other's histories: never (`excluded`), or the
            earlier row in the later one's (`by_order`, as some published data sets have it).
        action: the column that tells kinds of events apart.
        behaviours: the actions that histories hold; none: every action.
        item_features: columns that belong to the item, as its first row has them.
        items: where they are, if not in the log.
        histories: the columns that get a history, `COLUMN_history`; null: the item and the item
            features that are categorical.
        max_length: the last behaviours kept.
        min_events: users with fewer behaviours are dropped.
        negatives: null: the log has labels (`label`), and nothing is drawn.
        check_leakage: look for leaks in what was written (`data_pipelines.check_leakage`).
    """

    user: str = "user"
    item: str = "item"
    time: str | None = "time"
    ties: Literal["excluded", "by_order"] = "excluded"
    action: str | None = None
    behaviours: tuple[str, ...] = ()
    item_features: tuple[str, ...] = ()
    items: ItemTable | None = None
    histories: tuple[str, ...] | None = None
    max_length: PositiveInt = 100
    min_events: NonNegativeInt = 0
    targets: Targets = Targets()
    negatives: Negatives | None = Negatives()
    check_leakage: bool = True
