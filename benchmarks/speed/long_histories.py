"""What does DARE's search over a long history cost, by length and width of the attention?

    python -m benchmarks.speed.long_histories

One target, one history of 1,000 to 10,000 behaviors (item and category, 1 M items, 10,000
categories), top 20 of them by attention, on one thread. `search`: scores and top 20 of given
vectors (`retrieve`, which is served). `ids and search`: attention's vectors are looked up
first. `whole model`: both embeddings, search, weights, tail. Attention 128 wide as the
representation is, half of it, a quarter of it. Times, not multiply-adds: a median of many calls,
the widths in turns.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import harness
from benchmarks.generated import PAIR
from benchmarks.tables import table
from recsys.compat.malloc import keep_freed_memory
from recsys.layers.history import History
from recsys.models.base import Field, HistoryShape
from recsys.models.two_stage import DAREConfig

LENGTHS = (1_000, 2_000, 5_000, 10_000)
ITEMS, CATEGORIES = 1_000_000, 10_000
WIDTH = 64  # of items and of categories in the representation
ATTENTION_WIDTHS = (64, 32, 16)
TOP_K, POSITION_DIM = 20, 16
WAYS = ("search", "ids and search", "whole model")


class Served(NamedTuple):
    """A model, its tables by purpose (items, then categories), and a target with its history."""

    model: nn.Module
    tables: dict[str, list[Tensor]]
    ids: list[Tensor]  # of items and categories, (L,) each
    target: list[Tensor]  # (1,) each


def build(length: int, attention_width: int) -> Served:
    torch.manual_seed(0)
    config = DAREConfig.model_validate(
        {"name": "dare", "pairs": [PAIR], "top_k": TOP_K, "position_dim": POSITION_DIM}
    )
    dims, attention_dims = (WIDTH, WIDTH), (attention_width, attention_width)
    fields = [Field(name, WIDTH) for name in PAIR["target"]]
    model = config.build(fields, 0, [HistoryShape(dims, attention_dims, length)])
    tables = {
        purpose: [torch.randn(rows, width) for rows in (ITEMS, CATEGORIES)]
        for purpose, width in (("attention", attention_width), ("representation", WIDTH))
    }
    sizes = (ITEMS, CATEGORIES)
    ids = [torch.randint(size, (length,)) for size in sizes]
    return Served(model.eval(), tables, ids, [torch.randint(size, (1,)) for size in sizes])


def look_up(tables: list[Tensor], ids: list[Tensor]) -> Tensor:
    return torch.cat([F.embedding(i, table) for table, i in zip(tables, ids, strict=True)], dim=1)


def attention_only(served: Served) -> History:
    """What a search reads: attention's vectors, and no others."""
    tables, length = served.tables["attention"], len(served.ids[0])
    return History(
        vectors=torch.empty(length, 0),
        lengths=torch.tensor([length]),
        target=torch.empty(1, 0),
        max_length=length,
        attention_vectors=look_up(tables, served.ids),
        attention_target=look_up(tables, served.target),
    )


def calls(served: Served) -> dict[str, Callable[[], object]]:
    ready = attention_only(served)

    def search() -> object:
        return served.model.retrieve(ready, TOP_K)

    def search_from_ids() -> object:
        return served.model.retrieve(attention_only(served), TOP_K)

    def score() -> object:
        tables = served.tables["representation"]
        vectors, target = look_up(tables, served.ids), look_up(tables, served.target)
        history = replace(attention_only(served), vectors=vectors, target=target)
        return served.model(target, torch.empty(1, 0), history)

    return dict(zip(WAYS, (search, search_from_ids, score), strict=True))


def measure(rounds: int, calls_per_round: int) -> dict[str, dict[str, float]]:
    """Median milliseconds a target, by (way, attention's width), then by length."""
    times: dict[tuple[str, int], dict[int, list[float]]] = {}
    for length in LENGTHS:
        prepared = {width: calls(build(length, width)) for width in ATTENTION_WIDTHS}
        for round_number in range(rounds + 1):
            for width, ways in prepared.items():
                for way, call in ways.items():
                    seconds = time_of(call, calls_per_round)
                    if round_number:  # the first warms up
                        by_length = times.setdefault((way, width), {})
                        by_length.setdefault(length, []).append(seconds * 1e3)
    return {
        f"{way}, {2 * width}": {str(n): statistics.median(found) for n, found in lengths.items()}
        for (way, width), lengths in times.items()
    }


def time_of(call: Callable[[], object], repeats: int) -> float:
    with torch.inference_mode():
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) / repeats


def slope_of(found: dict[str, float]) -> tuple[float, float]:
    """Least squares: microseconds a behavior, and share of the times' variance it explains."""
    lengths = np.array([float(length) for length in found])
    times = np.array(list(found.values())) * 1e3
    slope, _ = np.polyfit(lengths, times, 1)
    return float(slope), float(np.corrcoef(lengths, times)[0, 1] ** 2)


def to_markdown(results: dict[str, dict[str, float]]) -> str:
    rows = []
    for name, found in results.items():
        growth = found[str(LENGTHS[-1])] / found[str(LENGTHS[0])]
        slope, explained = slope_of(found)
        times = [f"{found[str(length)]:.3f}" for length in LENGTHS]
        rows.append(
            [*name.rsplit(", ", 1), *times, f"{growth:.1f}", f"{slope:.3f}", f"{explained:.3f}"]
        )
    heads = ["", "attention's width", *(f"{length:,}" for length in LENGTHS)]
    heads += ["10,000 ÷ 1,000", "µs a behavior", "R²"]
    lines = ["Milliseconds for one target, medians, one thread.", "", table(heads, rows)]
    full, half, quarter = (2 * width for width in ATTENTION_WIDTHS)
    last = str(LENGTHS[-1])
    for way in WAYS:
        whole = results[f"{way}, {full}"][last]
        shares = [results[f"{way}, {width}"][last] / whole for width in (half, quarter)]
        lines.append(
            f"\n{way}, {LENGTHS[-1]:,} behaviors: half the width takes {shares[0]:.2f} of the "
            f"time, a quarter {shares[1]:.2f}."
        )
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, rounds=15, threads=1)
    parser.add_argument("--calls", type=int, default=10, help="of a round")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    results = measure(arguments.rounds, arguments.calls)
    facts = {"milliseconds": results, "threads": arguments.threads}
    harness.report(arguments, facts, to_markdown(results))


if __name__ == "__main__":
    main()
