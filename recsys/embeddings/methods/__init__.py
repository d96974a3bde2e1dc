"""THE LIST of embedding methods: add a method's config here and it can be named in YAML."""

from typing import Annotated

from pydantic import Field

from recsys.embeddings.methods.compositional import CompositionalConfig
from recsys.embeddings.methods.dnis import DnisConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.methods.hashed import HashedConfig
from recsys.embeddings.methods.mixed_dimension import MixedDimensionConfig
from recsys.embeddings.methods.optembed import OptEmbedConfig
from recsys.embeddings.methods.pruned import PrunedConfig
from recsys.embeddings.methods.unified import UnifiedConfig

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
