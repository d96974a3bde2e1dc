"""Taobao and Tmall event logs, and the datasets that DARE (ICLR 2025) makes of them.

UserBehavior.csv has no header: user, item, category, action (pv, cart, fav, buy), time in seconds.
The user_log of Tmall has one: user_id, item_id, cat_id, seller_id, brand_id, time_stamp (mmdd),
action_type (0 is a click).
"""

from data_pipelines.recipe import Events, Negatives, Recipe, Targets
from data_pipelines.rules.files import FileFormat
from data_pipelines.rules.splits import LastTwoItems
from data_pipelines.source import DataSource

CLICKS = Events(
    action="action",
    behaviours=("pv",),
    item_features=("category",),
    targets=Targets(actions=("pv",)),
)
USER_BEHAVIOR = Recipe(
    name="taobao",
    file=FileFormat(
        header=False, columns=("user", "item", "category", "action", "time"), quote=None
    ),
    events=CLICKS,
    split=LastTwoItems(),
)

# Clicks 1 (test), 2 (valid) and 3, 8, … 93 (train) from the end; the file is in time order.
_DARE: dict[str, object] = {
    "max_length": 200,
    "min_events": 210,
    "negatives": Negatives(per_positive=2, sampling="popularity"),
}
TAOBAO_DARE = USER_BEHAVIOR.model_copy(
    update={
        "name": "taobao_dare",
        "min_count": 1,
        "events": CLICKS.model_copy(
            update={
                **_DARE,
                "time": None,
                "targets": Targets(actions=("pv",), every=5, per_user=19),
            }
        ),
    }
)

# Times are days: clicks of one day are in each other's histories, in the order of the file.
TMALL_DARE = Recipe(
    name="tmall_dare",
    min_count=1,
    events=Events(
        user="user_id",
        item="item_id",
        time="time_stamp",
        ties="by_order",
        action="action_type",
        behaviours=("0",),
        item_features=("cat_id",),
        targets=Targets(actions=("0",), every=5, per_user=19),
    ).model_copy(update=_DARE),
    split=LastTwoItems(),
)

TAOBAO = DataSource(datasets=(USER_BEHAVIOR, TAOBAO_DARE, TMALL_DARE))
