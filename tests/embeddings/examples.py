"""One example of every embedding method: what the contract tests, sharded ones too, go through."""

import base64
import zlib

import numpy as np
from torch import Tensor

from recsys.embeddings.id_mapping.partitions import QuotientRemainder
from recsys.embeddings.methods.base import BaseMethodConfig
from recsys.embeddings.methods.compositional import CompositionalConfig
from recsys.embeddings.methods.dnis import DnisConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.methods.hashed import HashedConfig
from recsys.embeddings.methods.mixed_dimension import FrequencyBandConfig, MixedDimensionConfig
from recsys.embeddings.methods.optembed import OptEmbedConfig
from recsys.embeddings.methods.pruned import PrunedConfig
from recsys.embeddings.methods.unified import UnifiedConfig

CARDINALITY, DIM = 50, 4


def kept_text(is_kept: Tensor) -> str:
    """(V,) bool as `kept` of configs of older runs: base64 of the compressed bits."""
    return base64.b64encode(zlib.compress(np.packbits(is_kept.numpy()).tobytes(), 9)).decode()


EXAMPLES: list[BaseMethodConfig] = [
    FullTableConfig(embedding_dim=DIM),
    HashedConfig(embedding_dim=DIM, num_buckets=20, num_hashes=2),
    UnifiedConfig(embedding_dim=DIM, num_rows=40, num_chunks=2),
    CompositionalConfig(embedding_dim=DIM, partitions=QuotientRemainder(num_remainders=7)),
    MixedDimensionConfig(
        embedding_dim=DIM,
        bands=(FrequencyBandConfig(share=0.3, dim=4), FrequencyBandConfig(share=0.7, dim=2)),
    ),
    OptEmbedConfig(embedding_dim=DIM, variant="rows"),  # the columns would be drawn at random
    DnisConfig(embedding_dim=DIM, bands=(0.06, 0.94)),
    PrunedConfig(embedding_dim=DIM, kept=45),
]
