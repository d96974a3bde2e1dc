"""Samples of real rows that benchmarks train on: which files, and how they are prepared.

The rows are read from $RECSYS_REAL_DATA (default ../shared/data).
"""

import os
from pathlib import Path
from typing import NamedTuple

from data_pipelines import prepare
from recsys.schema import load_schema

REAL_DATA = Path(os.environ.get("RECSYS_REAL_DATA", "../shared/data"))
RANDOM_SPLIT = ("split.method=random", "split.seed=1", "split.fractions=[0.8,0.1,0.1]")
# each user's last item is test, the one before valid
LAST_ITEMS = ("split.method=last_two_items", "events.max_length=50", "min_count=1")
CRITEO_FILE = ("criteo_kaggle/dac_sample_137k.tsv.gz",)
TAOBAO_FILES = (
    "taobao/UserBehavior_10k_114users_full_history.csv.gz",
    "taobao/UserBehavior_96k_one_day.csv.gz",
)


class Sample(NamedTuple):
    """A recipe, its raw files and overrides; of event logs also the names of the item columns."""

    recipe: str
    raw: tuple[str, ...]
    overrides: tuple[str, ...]
    item: str = "item"
    category: str | None = "category"

    @property
    def pair(self) -> dict[str, list[str]]:
        """The target features and their histories, as `model.pairs` takes them."""
        target = [name for name in (self.item, self.category) if name is not None]
        return {"target": target, "history": [f"{name}_history" for name in target]}

    @property
    def features(self) -> dict[str, dict[str, str]]:
        """`embeddings.features`: histories read the tables of their targets."""
        pairs = zip(self.pair["history"], self.pair["target"], strict=True)
        return {history: {"shares_table_with": target} for history, target in pairs}


def item_lists(name: str) -> Sample:
    raw = (f"amazon/{name}_5core_s3rec_seq.txt.gz", f"amazon/{name}_item2attributes.json.gz")
    return Sample("amazon_lists", raw, LAST_ITEMS)


SAMPLES = {
    "criteo_kaggle": Sample("criteo_kaggle", CRITEO_FILE, (*RANDOM_SPLIT, "min_count=2")),
    # FuxiCTR's tokens: a missing count is 0, which shares id 0
    "criteo_peer": Sample(
        "criteo_kaggle",
        CRITEO_FILE,
        (
            *RANDOM_SPLIT,
            "min_count=2",
            "numerical.transform={kind: criteo_bucket, missing: 0, absent: [0]}",
        ),
    ),
    "avazu": Sample("avazu", ("avazu/avazu_43k.csv.gz",), (*RANDOM_SPLIT, "min_count=2")),
    "movielens_1m": Sample("movielens_1m", ("movielens_1m",), (*RANDOM_SPLIT, "min_count=1")),
    "taobao": Sample(
        "taobao", TAOBAO_FILES, ("min_count=1", "categorical.columns=[user,item,category]",
                                 "events.histories=[item,category]"),
    ),
    "grocery": Sample(
        "configs/recipes/amazon_grocery.yaml",
        ("amazon/Grocery_5core_rechorus_train_122k.tsv.gz", "amazon/Grocery_item_category.tsv.gz"),
        (),
    ),
    "beauty": item_lists("Beauty"),
    "sports": item_lists("Sports"),
    "movielens": Sample(
        "movielens_1m_history", ("movielens_1m",), ("min_count=1",), item="movie", category=None
    ),
}  # fmt: skip


def prepared(name: str, work: Path) -> Path:
    """The dataset's folder below `work`, prepared if it is not there yet."""
    out = work.resolve() / name
    if not (out / "schema.json").exists():
        sample = SAMPLES[name]
        raw = [REAL_DATA / file for file in sample.raw]
        prepare(sample.recipe, raw, out, sample.overrides, lambda *_: None)
    return out


def describe(folder: Path) -> str:
    """Rows by split, ids by feature, and how the rows were split."""
    schema = load_schema(folder)
    rows = ", ".join(f"{split.rows:,} {name}" for name, split in schema.splits.items())
    ids = ", ".join(f"{f.num_ids:,} {f.name}" for f in schema.of_kind("categorical"))
    split = schema.recipe.get("split", {"method": "independent rows"})
    method = split["method"] if isinstance(split, dict) else split
    longest = max(f.max_length or 0 for f in schema.sparse)
    histories = f"; histories of at most {longest}" if longest else ""
    return f"{rows} rows ({method}); ids: {ids}{histories}"
