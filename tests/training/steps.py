"""Training step by step, for tests that compare one process with many."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from recsys.config.run import RunConfig
from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import join_ranks
from recsys.schema import load_schema
from recsys.training.lightning.resumable_loader import EpochStream
from recsys.training.loaders import build_loader
from recsys.training.row_regularization import add_row_l2


class Shard(NamedTuple):
    table: str
    first_row: int
    first_column: int
    weight: torch.Tensor


class Steps(NamedTuple):
    """What some steps of training left on one rank."""

    losses: list[float]
    dense: dict[str, torch.Tensor]
    shards: list[Shard]
    kinds: dict[str, str]


def train_steps(configs: Mapping[str, RunConfig], steps: int) -> dict[str, Steps]:
    """Each config trained for so many steps from its seed, on the ranks of the environment."""
    with join_ranks(torch.device("cpu")) as ranks:
        return {name: _train(config, steps, ranks) for name, config in configs.items()}


def _train(config, steps, ranks) -> Steps:
    schema = load_schema(config.data.path)
    model, forward, plan = build_on_ranks(config, schema, ranks)
    add_row_l2(model, config, schema, ranks)
    optimizer = config.train.dense_optimizer.build(model.dense_parameters())
    stream = EpochStream(build_loader(config, schema, "train", model, ranks, shuffle=True))
    losses = []
    while len(losses) < steps:
        for batch in stream:
            if len(losses) == steps:
                break
            logits, penalty = forward(batch)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, batch.labels, reduction="sum"
            )
            model.zero_grad()
            share = ranks.world_size / batch.global_rows
            (loss * share + penalty * len(batch) * share).backward()
            optimizer.step()
            model.embeddings.store.step()
            losses.append(float(ranks.sum(loss.detach().double()) / batch.global_rows))
    shards = [
        Shard(s.table.name, s.first_row, s.first_column, s.weight.clone())
        for s in model.embeddings.store.shards()
    ]
    state = {name: value.clone() for name, value in model.dense_state_dict().items()}
    options = {} if plan is None else {str(i): t.sharding for i, t in enumerate(plan.tables)}
    return Steps(losses, state, shards, options)


def whole_tables(ranks: Sequence[Steps]) -> dict[str, torch.Tensor]:
    """The tables put together from the shards of all ranks."""
    shards = [shard for rank in ranks for shard in rank.shards]
    tables = {}
    for name in {shard.table for shard in shards}:
        parts = [shard for shard in shards if shard.table == name]
        rows = max(s.first_row + s.weight.shape[0] for s in parts)
        columns = max(s.first_column + s.weight.shape[1] for s in parts)
        whole = torch.full((rows, columns), torch.nan)
        for s in parts:
            row, column = s.first_row + len(s.weight), s.first_column + s.weight.shape[1]
            whole[s.first_row : row, s.first_column : column] = s.weight
        assert not whole.isnan().any(), f"{name} is not whole"
        tables[name] = whole
    return tables
