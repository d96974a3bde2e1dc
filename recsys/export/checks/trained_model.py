"""Scores of encoded rows with torch: by the trained model, and by a newly written .pt2 file."""

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.data.batch import Batch, Cursor
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.export.graphs import load_whole_graph
from recsys.history_pair import history_features
from recsys.models.ctr_model import CTRModel
from recsys.models.network import history_of
from recsys.models.two_stage import TwoStage
from recsys.schema import Schema
from recsys.serving.manifest import Manifest
from recsys.serving.reader import chunks

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class RunReference:
    """The trained model with its own tables and lookups."""

    name: Literal["run"] = "run"

    def __init__(self, model: CTRModel, schema: Schema) -> None:
        self.model, self.schema = model.eval(), schema
        names = history_features(model.embeddings.pairs)
        self.longest = max((schema.feature(name).max_length or 0 for name in names), default=0)
        self.device = next(iter(model.embeddings.store.weights().values())).device

    def logits(self, encoded: pl.DataFrame) -> Floats:
        """Encoded columns → logits (B,)."""
        with torch.no_grad():
            batches = map(self._physical, chunks(encoded, self.longest))
            logits = [self.model(batch)[0] for batch in batches]
        return np.asarray(torch.cat(logits or [torch.empty(0)]).float().cpu().numpy())

    def vectors(self, encoded: pl.DataFrame) -> dict[str, Floats]:
        """Each embedding's vectors, (B, D), of histories (L, D)."""
        embeddings = self.model.embeddings
        with torch.no_grad():
            found, _ = embeddings(self._physical(encoded).lookups)
        keys = [EmbeddingKey(name) for name in embeddings.fields]
        widths = [embeddings.output_dims[key] for key in keys]
        vectors = dict(zip(keys, found.fields.split(widths, dim=1), strict=True)) | found.unpooled
        return {key.name: each.cpu().numpy() for key, each in vectors.items()}

    def retrieve(self, encoded: pl.DataFrame, k: int, pair: int) -> tuple[Ids, Floats]:
        """Results of the search stage of a pair: ranks (B, k), 0 for none, and scores (B, k)."""
        network = self.model.network
        assert isinstance(network.model, TwoStage)  # as the pair's `search` says
        with torch.no_grad():
            batch = self._physical(encoded)
            vectors, _ = self.model.embeddings(batch.lookups)
            history = history_of(network.pairs[pair], vectors, network.columns)
            ranks, scores = network.model.retrieve(history, k, pair)
        return ranks.cpu().numpy(), scores.cpu().numpy()

    def _physical(self, encoded: pl.DataFrame) -> Batch:
        bags = [_bags(encoded[feature.name]) for feature in self.schema.sparse]
        sparse = JaggedIds(
            keys=[feature.name for feature in self.schema.sparse],
            values=torch.cat([values for values, _ in bags]).int(),
            lengths=torch.cat([lengths for _, lengths in bags]).int(),
        )
        dense = _dense(encoded, [feature.name for feature in self.schema.numerical])
        batch = Batch(dense, sparse, torch.zeros(len(encoded)), Cursor(0, 0), len(encoded))
        return self.model.embeddings.to_physical(batch).to(self.device)


class WholeGraphFile:
    """The .pt2 file of an export that this process has just written; no other is loaded."""

    def __init__(self, export_dir: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.graph = load_whole_graph(export_dir)
        self.longest = max((pair.max_length for pair in manifest.pairs), default=0)

    def logits(self, encoded: pl.DataFrame) -> Floats:
        """Encoded columns → logits (B,)."""
        with torch.no_grad():
            parts = chunks(encoded, self.longest)
            logits = [self.graph(*self._inputs(chunk))[0] for chunk in parts]
        return np.asarray(torch.cat(logits or [torch.empty(0)]).numpy())

    def _inputs(self, encoded: pl.DataFrame) -> list[Tensor]:
        inputs: list[Tensor] = []
        for feature in self.manifest.sparse:
            values, lengths = _bags(encoded[feature.name])
            inputs += [values, lengths] if feature.kind == "sequence" else [values]
        if self.manifest.numerical:
            inputs.append(_dense(encoded, [f.name for f in self.manifest.numerical]))
        return inputs


def _bags(column: pl.Series) -> tuple[Tensor, Tensor]:
    """Ids (L,) and lengths (B,), int64."""
    if not isinstance(column.dtype, pl.List):
        return _as_int64(column), torch.ones(len(column), dtype=torch.long)
    lengths = column.list.len()
    return _as_int64(column.filter(lengths > 0).explode()), _as_int64(lengths)


def _as_int64(column: pl.Series) -> Tensor:
    return torch.from_numpy(column.to_numpy().astype(np.int64))


def _dense(encoded: pl.DataFrame, names: list[str]) -> Tensor:
    columns = [encoded[name].to_numpy().astype(np.float32) for name in names]
    if not columns:
        return torch.zeros(len(encoded), 0)
    return torch.from_numpy(np.stack(columns, axis=1))
