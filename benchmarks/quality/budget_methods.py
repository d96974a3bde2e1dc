"""The methods that `embedding_budgets` compares: a config by size, and the searches."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import CONFIGS
from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.config.yaml_files import apply_overrides, read_yaml
from recsys.distributed.run_memory import count_run_bytes
from recsys.errors import RecsysError
from recsys.schema import Schema, load_schema

DIM = 16
FULL = "full_table, smaller dim"
HASHED, SHARED, SHARED_TWO = "hashed per feature", "unified, 1 chunk", "unified, 2 chunks"
SMALL = 40  # ids; such features have 0.4 % of the Criteo sample's ids
HASHED_EXACT = f"hashed per feature, ≤ {SMALL} ids exact"
SHARED_EXACT = f"unified, 1 chunk, ≤ {SMALL} ids exact"
GRID = 4096
INIT = {"distribution": "normal", "std": 1.0e-2}

# method → its config for a size in (0, 1] and the number of all ids; larger is more bytes
METHODS: dict[str, Callable[[float, int], dict[str, object]]] = {
    FULL: lambda k, ids: {"method": "full_table", "embedding_dim": max(1, int(k * DIM))},
    HASHED: lambda k, ids: {"method": "hashed", "total_rows": max(1, int(k * ids))},
    SHARED: lambda k, ids: {"method": "unified", "num_rows": max(1, int(k * ids))},
    SHARED_TWO: lambda k, ids: {
        "method": "unified",
        "num_rows": 2 * max(1, int(k * ids)),
        "num_chunks": 2,
    },
    HASHED_EXACT: lambda k, ids: {**METHODS[HASHED](k, ids), "exact_below": SMALL},
    SHARED_EXACT: lambda k, ids: {**METHODS[SHARED](k, ids), "exact_below": SMALL},
    "quotient_remainder, multiply": lambda k, ids: {
        "method": "compositional",
        "partitions": {"kind": "quotient_remainder", "row_share": k},
        "operation": "multiply",
        "full_below": 200,
    },
    "mixed_radix of 3, add": lambda k, ids: {
        "method": "compositional",
        "partitions": {"kind": "mixed_radix", "k": 3},
        "operation": "add",
        "full_below": 12 + int(k * ids / 10),
    },
    "mixed_dimension": lambda k, ids: {
        "method": "mixed_dimension",
        "temperature": 0.3,
        "budget_share": k,
    },
}


class Search(NamedTuple):
    """The committed config whose `search` and `embeddings` serve any model; what differs."""

    config: str
    changes: tuple[str, ...] = ()
    # the method whose supernet it chooses from, where that is another's
    supernet_of: str | None = None


SEARCHES = {
    "optembed": Search("autoint_optembed"),
    "optembed, rows dropped": Search(
        "autoint_optembed",
        ("search.threshold_learning_rate=5.0e-2", "search.regularizer=5.0e-4"),
    ),
    "dnis": Search("dcn_v2_dnis", ("search.prune_to=best",)),
    "dnis, to the budget": Search("dcn_v2_dnis", ("search.prune_to=budget",), "dnis"),
}


def config_for(dataset: str, model: str, method: str, knob: float, data: Path) -> RunConfig:
    """The committed config of the model with another `embeddings.default`."""
    ids = sum(feature.num_ids for feature in load_schema(data).sparse)
    content = read_yaml(CONFIGS / dataset / f"{model}.yaml")
    default = {"embedding_dim": DIM, "init": INIT, **METHODS[method](knob, ids)}
    content["embeddings"] = {"default": default}
    return as_run(content, data, method)


def search_config(dataset: str, model: str, method: str, share: float, data: Path) -> RunConfig:
    """The committed config of the model with `embeddings` and `search` of a committed search."""
    search = SEARCHES[method]
    searched = read_yaml(CONFIGS / "criteo_kaggle" / f"{search.config}.yaml")
    content = read_yaml(CONFIGS / dataset / f"{model}.yaml")
    content |= {key: searched[key] for key in ("embeddings", "search")}
    content = apply_overrides(content, [*search.changes, f"search.budget_share={share}"])
    return as_run(content, data, method)


def as_run(content: dict, data: Path, name: str) -> RunConfig:
    content = apply_overrides(content, [f"data.path={data}", "train.device=cpu"])
    return validate(RunConfig, content, name)


def serve_bytes(config: RunConfig, schema: Schema) -> int:
    return count_run_bytes(config, schema).serve_bytes


class Largest(NamedTuple):
    config: RunConfig
    bytes: int


def largest_within(
    dataset: str, model: str, method: str, share: float, data: Path
) -> Largest | None:
    """The method's largest config within a share of the full tables' bytes; None: there is none."""
    schema = load_schema(data)
    budget = share * serve_bytes(config_for(dataset, model, FULL, 1.0, data), schema)
    low, high, best = 0, GRID, None
    while low < high:
        middle = (low + high + 1) // 2
        try:
            config = config_for(dataset, model, method, middle / GRID, data)
            size = serve_bytes(config, schema)
        except RecsysError:
            size = None  # too small for this method
        if size is None:
            low = middle
        elif size <= budget:
            low, best = middle, Largest(config, size)
        else:
            high = middle - 1
    return best
