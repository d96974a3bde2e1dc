"""The stores that a config can choose. On several devices, fused tables are sharded."""

from recsys.embeddings.fused_store import FusedStore
from recsys.embeddings.plain_store import PlainStore
from recsys.embeddings.sharded_store import ShardedStore
from recsys.embeddings.table_store import TableStore, padded_dim

__all__ = ["STORES", "FusedStore", "PlainStore", "ShardedStore", "TableStore", "padded_dim"]

STORES: dict[str, type[FusedStore] | type[PlainStore]] = {"fused": FusedStore, "plain": PlainStore}
