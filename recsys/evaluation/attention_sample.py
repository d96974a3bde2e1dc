"""A sample of a split's histories and their attention weights, kept while the split is scored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys.data.batch import Batch
from recsys.embeddings.combine import FeatureVectors
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.history_pair import HistoryPair
from recsys.layers.history import History
from recsys.models.base import SEARCH_ROLE
from recsys.models.ctr_model import CTRModel
from recsys.models.network import history_of
from recsys.schema import Schema

MAX_ROWS, MAX_BEHAVIORS = 8_192, 2_000_000
NUM_RETRIEVED = 20


@runtime_checkable
class HasAttention(Protocol):
    """A model that returns the weight of each behavior of a pair."""

    def attention_weights(self, history: History, pair: int = 0) -> Tensor:
        """(L,)."""


@runtime_checkable
class HasSearch(Protocol):
    """A model that returns the behaviors of a pair that it retrieves."""

    def retrieve(self, history: History, k: int, pair: int = 0) -> tuple[Tensor, Tensor]:
        """Ranks (B, k), best first, 1 = the most recent, 0 = none; and scores (B, k)."""


class AttentionSample:
    """Whole batches, spread evenly over the split, up to a number of rows or behaviors.

    Of each pair, the feature with the fewest ids is kept (the category rather than the item).
    """

    def __init__(self, model: CTRModel, schema: Schema, every: int, max_rows: int) -> None:
        """`every`: of so many batches the first is kept. max_rows: of this rank."""
        self.model, self.schema = model, schema
        attends = isinstance(model.network.model, HasAttention)
        self.pairs: Sequence[HistoryPair] = model.network.pairs if attends else ()
        self.every, self.max_rows = every, max_rows
        self.rows, self.behaviors = 0, 0
        self.parts: list[pa.RecordBatch] = []

    def wants(self, number: int) -> bool:
        """Whether batch `number` is in the sample; the same on every rank."""
        return bool(self.pairs) and number % self.every == 0

    def observe(self, batch: Batch, physical: Batch) -> None:
        """Keeps rows of a batch, with logical ids and as the tables read it."""
        vectors, _ = self.model.embeddings(physical.lookups)
        taken = 0
        for number, pair in enumerate(self.pairs):
            place = self._place_of_feature(pair)
            lengths = batch.sparse[pair.history[place]].lengths().numpy()
            taken = self._rows_that_fit(lengths)
            columns = self._columns(number, pair, place, vectors)
            history = _ids(batch, pair.history[place])
            columns |= {
                "label": pa.array(batch.labels.numpy().astype(np.int8)),
                "target_id": pa.array(_ids(batch, pair.target[place])),
                "history_ids": _lists(history, lengths),
                "target": _repeated(pair.target[place], len(lengths)),
                "history": _repeated(pair.history[place], len(lengths)),
            }
            self.parts.append(pa.RecordBatch.from_pydict(columns).slice(0, taken))
            self.behaviors += int(lengths[:taken].sum())
        self.rows += taken

    def table(self) -> pa.Table | None:
        """The sample; None for a model without attention."""
        return pa.Table.from_batches(self.parts) if self.parts else None

    def _place_of_feature(self, pair: HistoryPair) -> int:
        ids = [self.schema.feature(name).num_ids for name in pair.target]
        return ids.index(min(ids))

    def _rows_that_fit(self, lengths: np.ndarray) -> int:
        behaviors = np.cumsum(lengths, dtype=np.int64)
        fit = int(np.searchsorted(behaviors, MAX_BEHAVIORS - self.behaviors, side="right"))
        return max(0, min(fit, self.max_rows - self.rows))

    def _columns(
        self, number: int, pair: HistoryPair, place: int, vectors: FeatureVectors
    ) -> dict[str, pa.Array]:
        network = self.model.network
        history = history_of(pair, vectors, network.columns)
        assert isinstance(network.model, HasAttention)  # or there were no pairs
        lengths = history.lengths.cpu().numpy()
        weights = network.model.attention_weights(history, number).float().cpu().numpy()
        columns = {"weights": _lists(weights, lengths)}
        if isinstance(network.model, HasSearch):
            found, _ = network.model.retrieve(history, NUM_RETRIEVED, number)
            columns["retrieved"] = _fixed_lists(found)
            alone = feature_alone(history, pair, place, vectors)
            found, _ = network.model.retrieve(alone, NUM_RETRIEVED, number)
            columns["retrieved_by_feature"] = _fixed_lists(found)
        return columns


def feature_alone(
    history: History, pair: HistoryPair, place: int, vectors: FeatureVectors
) -> History:
    """The same with zeros for all features but one: how the paper scores retrieval."""
    widths = _widths(pair, "", vectors)
    keep = _mask(widths, place).to(history.vectors)
    alone = replace(history, vectors=history.vectors * keep, target=history.target * keep)
    if history.attention_vectors is None or history.attention_target is None:
        return alone
    keep = _mask(_widths(pair, SEARCH_ROLE, vectors), place).to(keep)
    return replace(
        alone,
        attention_vectors=history.attention_vectors * keep,
        attention_target=history.attention_target * keep,
    )


def _widths(pair: HistoryPair, role: str, vectors: FeatureVectors) -> list[int]:
    return [vectors.unpooled[EmbeddingKey(name, role)].shape[1] for name in pair.history]


def _mask(widths: Sequence[int], place: int) -> Tensor:
    return torch.cat([torch.full((w,), float(i == place)) for i, w in enumerate(widths)])


def _ids(batch: Batch, feature: str) -> np.ndarray:
    ids: np.ndarray = batch.sparse[feature].values().numpy().astype(np.int32)
    return ids


def _lists(values: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values))


def _fixed_lists(ranks: Tensor) -> pa.FixedSizeListArray:
    values = ranks.cpu().numpy().astype(np.int32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _repeated(name: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [name])
