"""The only place that imports torchrec: its import-time warnings are not for our users."""

import logging
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        from torchrec import (
            EmbeddingBagCollection,
            EmbeddingBagConfig,
            KeyedJaggedTensor,
            PoolingType,
        )
        from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
        from torchrec.optim.rowwise_adagrad import RowWiseAdagrad
    finally:
        logging.disable(logging.NOTSET)
    # torchrec calls a function that torch 2.13 has renamed, and torch says so at every lookup.
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

__all__ = [
    "EmbeddingBagCollection",
    "EmbeddingBagConfig",
    "FusedEmbeddingBagCollection",
    "KeyedJaggedTensor",
    "PoolingType",
    "RowWiseAdagrad",
]
