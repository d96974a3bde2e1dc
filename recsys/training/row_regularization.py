"""add_row_l2: adds the L2 of sparse updates that the config asks for."""

from recsys.config.run import RunConfig
from recsys.data.statistics import count_ids
from recsys.distributed.context import Ranks
from recsys.embeddings.tables.regularization import RowL2
from recsys.errors import RecsysError
from recsys.models.ctr_model import CTRModel
from recsys.schema import Schema


def add_row_l2(model: CTRModel, config: RunConfig, schema: Schema, ranks: Ranks) -> None:
    """Adds the penalty of looked-up rows; does nothing if there is none, or if tables decay."""
    optimizer = config.train.embedding_optimizer
    if not optimizer.has_row_l2(config.embeddings.store):
        return
    is_by_batch = optimizer.mini_batch_l2 > 0
    if is_by_batch and ranks.world_size > 1:
        raise RecsysError(
            "mini-batch aware regularization needs the ids of the whole batch, which processes do "
            "not exchange",
            where="train.embedding_optimizer.mini_batch_l2",
            expected="0, or one process",
            got=f"{optimizer.mini_batch_l2:g} on {ranks.world_size} processes",
            fix="use l2, which is applied lookup by lookup",
        )
    model.add_row_penalty(count_ids(schema, config.data.path), _row_l2(config, schema))


def _row_l2(config: RunConfig, schema: Schema) -> RowL2:
    optimizer, rows = config.train.embedding_optimizer, schema.split("train").rows
    if optimizer.mini_batch_l2 > 0:
        return RowL2(0.5 * optimizer.mini_batch_l2, is_once_per_batch=True)
    batch_rows = min(config.data.global_batch_size, rows)
    return RowL2(0.5 * optimizer.l2 * rows, batch_rows=batch_rows)
