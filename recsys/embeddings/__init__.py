"""THE LIST of embedding methods: add a method's config here and it can be named in YAML."""

from typing import Annotated

from pydantic import Field

from recsys.embeddings.dnis import DnisConfig
from recsys.embeddings.full_table import FullTableConfig
from recsys.embeddings.hashed import HashedConfig
from recsys.embeddings.optembed import OptEmbedConfig
from recsys.embeddings.pruned import PrunedConfig

MethodConfig = Annotated[
    FullTableConfig | HashedConfig | OptEmbedConfig | DnisConfig | PrunedConfig,
    Field(discriminator="method"),
]
