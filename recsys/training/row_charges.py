"""charge_rows: the L2 of sparse updates, as the config asks for it."""

from recsys.config import RunConfig
from recsys.data.id_counts import count_ids
from recsys.embeddings.row_penalty import Charge
from recsys.errors import RecsysError
from recsys.models.ctr_model import CTRModel
from recsys.schema import Schema
from recsys.training.ranks import Ranks


def charge_rows(model: CTRModel, config: RunConfig, schema: Schema, ranks: Ranks) -> None:
    """Rows pay when they are looked up; nothing happens where tables decay as a whole."""
    optimizer = config.train.embedding_optimizer
    is_dense_decay = config.embeddings.store == "plain" and optimizer.name == "adam"
    is_by_batch = optimizer.mini_batch_l2 > 0
    if not is_by_batch and (optimizer.l2 == 0 or is_dense_decay):
        return
    if is_by_batch and ranks.world_size > 1:
        raise RecsysError(
            "mini-batch aware regularisation counts a row once for the whole batch, whose ids "
            "processes do not exchange",
            where="train.embedding_optimizer.mini_batch_l2",
            expected="0, or one process",
            got=f"{optimizer.mini_batch_l2:g} on {ranks.world_size} processes",
            fix="use l2, which charges every occurrence by itself",
        )
    rows = schema.split("train").rows
    charge = Charge(0.5 * optimizer.mini_batch_l2 or 0.5 * optimizer.l2 * rows, is_by_batch)
    model.add_row_penalty(count_ids(schema, config.data.path), charge)
