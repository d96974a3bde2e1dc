"""The loaders of a run: batches whose ids are rows of the model's tables."""

from collections.abc import Callable

import torch

from recsys.config.run import RunConfig
from recsys.data.batch import Batch
from recsys.data.loader import BatchLoader
from recsys.distributed.context import Ranks
from recsys.models.ctr_model import CTRModel
from recsys.schema import Schema


def build_loader(
    config: RunConfig,
    schema: Schema,
    split: str,
    model: CTRModel,
    ranks: Ranks,
    *,
    shuffle: bool,
) -> BatchLoader:
    """The loader of a split; its threads also turn ids into rows of the model's tables."""
    return BatchLoader(
        config.data.path,
        schema,
        split,
        config.data,
        seed=config.train.seed,
        shuffle=shuffle,
        rank=ranks.rank,
        world_size=ranks.world_size,
        transform=loader_transform(model, ranks.device),
    )


def loader_transform(model: CTRModel, device: torch.device) -> Callable[[Batch], Batch]:
    """What the loader's threads do: ids become rows, ready for an asynchronous copy to a GPU."""
    if device.type != "cuda":
        return model.embeddings.to_physical
    return lambda batch: model.embeddings.to_physical(batch).pin_memory()
