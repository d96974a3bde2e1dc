"""A finished run as a source of weights: read table by table, without building its model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from recsys.config.run import load_stored_config
from recsys.data.readable import readable
from recsys.embeddings.feature_methods import build_methods
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.models.base import pairs_of
from recsys.schema import Feature, Schema, VocabularyEncoding, load_schema
from recsys.training.checkpoint.io import TABLES, load_weights
from recsys.training.checkpoint.layout import DTYPES, read_layout
from recsys.training.checkpoint.table_storage import load_tables
from recsys.training.run_folder.folder import CONFIG_FILE

METHOD_MODULES, NETWORK = "embeddings.method_modules", "network."


@dataclass(frozen=True)
class WarmStartSource:
    """The best weights of a run, and its schema."""

    best: Path
    schema: Schema
    dataset_dir: Path
    methods: Mapping[EmbeddingKey, EmbeddingMethod]
    dense: Mapping[str, Tensor]

    @property
    def features(self) -> dict[str, Feature]:
        """The features that have ids, by name."""
        return {feature.name: feature for feature in self.schema.sparse}

    def table(self, name: str) -> Tensor:
        """A whole table, (num_rows, dim)."""
        key, folder = f"{name}/weight", self.best / TABLES
        layout = read_layout(folder).tensors
        if key not in layout:
            raise RecsysError(f"the old run has no table {name!r}", where=folder)
        weight = torch.empty(layout[key].size, dtype=DTYPES[layout[key].dtype])
        load_tables(folder, {key: weight}, None, all_of_it=False)
        dims = {t.name: t.dim for method in self.methods.values() for t in method.tables()}
        return weight[:, : dims[name]]

    def network_state(self) -> dict[str, Tensor]:
        return _below(self.dense, NETWORK)

    def method_state(self, key: EmbeddingKey) -> dict[str, Tensor]:
        """The parameters of one embedding's method itself: projections, gates."""
        number = list(self.methods).index(key)
        return _below(self.dense, f"{METHOD_MODULES}.{number}.")


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def open_source(run_dir: Path) -> WarmStartSource:
    """Opens a finished run.

    Raises:
        RecsysError: if it has no complete weights, or its dataset has changed.
    """
    where = "train.warm_start"
    if not (run_dir / CONFIG_FILE).is_file():
        raise RecsysError(f"{run_dir} is not a run folder", where=where)
    best = sorted((run_dir / "checkpoints").glob("best-*"))
    if not best:
        raise RecsysError(
            f"{run_dir} has no trained weights yet",
            where=where,
            fix=f"finish it with `recsys train --resume {run_dir}`",
        )
    config, schema = load_stored_config(run_dir / CONFIG_FILE), load_schema(run_dir)
    if config.data.load_schema().fingerprint() != schema.fingerprint():
        raise RecsysError(
            f"the dataset of {run_dir} has changed since that run: its ids may mean other values",
            where=config.data.path,
            fix="restore it, or start without train.warm_start",
        )
    methods = build_methods(config.embeddings, schema, pairs_of(config.model))
    return WarmStartSource(best[-1], schema, config.data.path, methods, load_weights(best[-1]))


def read_values(dataset_dir: Path, feature: Feature) -> pl.DataFrame:
    """A feature's vocabulary: value, as text, and id."""
    if not isinstance(feature.encoding, VocabularyEncoding):
        raise ValueError(f"{feature.name} has no vocabulary")
    path = dataset_dir / feature.encoding.file
    with readable(path):
        path = file_inside(dataset_dir, feature.encoding.file)
        table = pl.read_parquet(path, columns=["value", "id"], glob=False)
    if len(table) != feature.num_ids - 1 or table["id"].n_unique() != len(table):
        raise RecsysError(
            f"the vocabulary of {feature.name!r} does not belong to this dataset",
            where=path,
            expected=f"the ids 1 to {feature.num_ids - 1}, once each",
            got=f"{len(table)} ids",
        )
    return table.with_columns(pl.col("value").cast(pl.String))
