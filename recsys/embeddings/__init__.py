"""THE LIST of embedding methods: add a method's config here and it can be named in YAML."""

from typing import Annotated

from pydantic import Field

from recsys.embeddings.compositional import CompositionalConfig
from recsys.embeddings.dnis import DnisConfig
from recsys.embeddings.full_table import FullTableConfig
from recsys.embeddings.hashed import HashedConfig
from recsys.embeddings.mixed_dimension import MixedDimensionConfig
from recsys.embeddings.optembed import OptEmbedConfig
from recsys.embeddings.pruned import PrunedConfig
from recsys.embeddings.unified import UnifiedConfig

MethodConfig = Annotated[
    FullTableConfig
    | HashedConfig
    | UnifiedConfig
    | CompositionalConfig
    | MixedDimensionConfig
    | OptEmbedConfig
    | DnisConfig
    | PrunedConfig,
    Field(discriminator="method"),
]
