"""Reads `attention/<split>.parquet`: attention weights of a sample of a split's histories."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.errors import RecsysError
from recsys.io.paths import regular_file
from recsys.metrics import Behaviors
from recsys.metrics.predictions import Floats, Ints


@dataclass(frozen=True)
class SampledPair:
    """One pair of target and history, by the feature with the fewest ids.

    weights: (L,) float64 of each behavior. retrieved: (n, K) ranks, by the whole pair and by this
    feature alone; None for a model without a search.
    """

    target: str
    history: str
    behaviors: Behaviors
    weights: Floats
    retrieved: Ints | None
    retrieved_by_feature: Ints | None


def read_sample(path: Path) -> Iterator[SampledPair]:
    """The pairs in the order of the model's config."""
    try:
        table = pq.read_table(regular_file(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise RecsysError(
            "the sample of attention cannot be read",
            where=path,
            expected="a complete Parquet file",
            got=error,
            fix="run `recsys evaluate RUN`, which writes it",
        ) from None
    histories = table["history"].cast(pa.string())
    for history in histories.unique().to_pylist():
        yield read_pair(table.filter(pc.equal(histories, history)), history)


def read_pair(table: pa.Table, history: str) -> SampledPair:
    lists = table["history_ids"].combine_chunks()
    behaviors = Behaviors(
        targets=table["target_id"].to_numpy().astype(np.int64),
        ids=lists.flatten().to_numpy().astype(np.int64),
        lengths=pc.list_value_length(lists).to_numpy().astype(np.int64),
        labels=table["label"].to_numpy() == 1,
    )
    return SampledPair(
        target=str(table["target"][0].as_py()),
        history=history,
        behaviors=behaviors,
        weights=table["weights"].combine_chunks().flatten().to_numpy().astype(np.float64),
        retrieved=read_ranks(table, "retrieved"),
        retrieved_by_feature=read_ranks(table, "retrieved_by_feature"),
    )


def read_ranks(table: pa.Table, column: str) -> Ints | None:
    if column not in table.column_names:
        return None
    lists = table[column].combine_chunks()
    ranks: Ints = lists.flatten().to_numpy().astype(np.int64).reshape(len(table), -1)
    return ranks
