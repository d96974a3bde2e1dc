"""The only place that imports torchrec: its import-time warnings are not for our users.

Whoever imports this module needs torchrec and fbgemm; the plain store does without it.
"""

import logging
import warnings
from collections.abc import Iterator

from torch import nn

from recsys.compat.fbgemm import stand_in_for_missing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        # torchrec's own name for it warns at each call
        from torch.distributed.optim import (  # type: ignore[attr-defined]  # its only name
            _apply_optimizer_in_backward as apply_optimizer_in_backward,
        )
        from torchrec import (
            EmbeddingBagCollection,
            EmbeddingBagConfig,
            KeyedJaggedTensor,
            PoolingType,
        )
        from torchrec.distributed import DistributedModelParallel
        from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
        from torchrec.distributed.types import ShardingEnv, ShardingPlan
        from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
        from torchrec.optim.optimizers import in_backward_optimizer_filter
        from torchrec.optim.rowwise_adagrad import RowWiseAdagrad
        from torchrec.streamable import Pipelineable
    finally:
        logging.disable(logging.NOTSET)
    # torchrec calls a function that torch 2.13 has renamed, and torch says so at every lookup.
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
stand_in_for_missing()
# What torch tells torchrec about its own future is not for our users.
warnings.filterwarnings("ignore", message="Please use DTensor instead")
warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
# said with torch 2.11
warnings.filterwarnings("ignore", message="`_get_pg_default_device` will be deprecated")
warnings.filterwarnings("ignore", message="Multiple backends are registered with this ProcessGroup")
# fbgemm's lookup of replicated tables has a gradient on the CPU, registered in an older way
warnings.filterwarnings("ignore", message="fbgemm::dense_embedding_codegen_lookup_function")
# said of every replicated table
logging.getLogger("torchrec.distributed.utils").setLevel(logging.ERROR)

__all__ = [
    "DistributedModelParallel",
    "EmbeddingBagCollection",
    "EmbeddingBagCollectionSharder",
    "EmbeddingBagConfig",
    "FusedEmbeddingBagCollection",
    "KeyedJaggedTensor",
    "Pipelineable",
    "PoolingType",
    "RowWiseAdagrad",
    "ShardingEnv",
    "ShardingPlan",
    "apply_optimizer_in_backward",
    "fused_kernels",
    "in_backward_optimizer_filter",
]


def fused_kernels(collection: FusedEmbeddingBagCollection) -> Iterator[nn.Module]:
    """Fbgemm's lookups, which count their own steps; torchrec keeps them out of `modules()`."""
    return (lookup._emb_module for lookup in collection._emb_modules)
