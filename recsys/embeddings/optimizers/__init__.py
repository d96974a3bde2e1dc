"""The optimizers that tables can have. This union is the list: add a class, add its name here."""

from typing import Annotated, get_args

from pydantic import Field

from recsys.embeddings.optimizers.adam import AdamConfig
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.optimizers.rowwise_adagrad import RowwiseAdagradConfig
from recsys.embeddings.optimizers.sgd import SgdConfig
from recsys.embeddings.optimizers.sparse_adam import SparseAdamConfig

TableOptimizer = Annotated[
    RowwiseAdagradConfig | SgdConfig | AdamConfig | SparseAdamConfig, Field(discriminator="name")
]
TABLE_OPTIMIZERS: tuple[type[TableOptimizerConfig], ...] = get_args(get_args(TableOptimizer)[0])
