"""Where a feature's tables may lie: the values of `placement` in `embeddings.features`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from recsys.config.base import BaseConfig

Sharding = Literal[
    "table_wise",
    "column_wise",
    "row_wise",
    "table_row_wise",
    "table_column_wise",
    "grid",
    "data_parallel",
]
Kernel = Literal["fused", "uvm", "uvm_caching", "dense"]


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class PlacementConfig(BaseConfig):
    """What the planner may do with a feature's tables; a key that is not given leaves it free.

    With split columns, row-wise Adagrad keeps an accumulator for each part of a row, and Adam of a
    copied table moves every row at every step: different optimizers. The planner chooses neither
    unless `sharding` asks for it.
    """

    # ways that the planner may choose from. table_wise: whole, on one device. column_wise,
    # row_wise: split over all devices. table_column_wise, table_row_wise: split over the devices of
    # one node. grid: columns over nodes, rows over the devices of each. data_parallel: a copy on
    # every device, for small tables; a step costs its whole size
    sharding: Annotated[tuple[Sharding, ...] | None, BeforeValidator(_as_tuple)] = Field(
        default=None, min_length=1
    )
    # memory of the rows. fused: the device's. uvm: the host's. uvm_caching: the host's, with a
    # cache on the device. dense: for data_parallel only
    kernel: Kernel | None = None
    # rows in the cache ÷ rows of the table, for uvm_caching; null: 0.2
    cache_load_factor: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _kernel_suits_sharding(self) -> Self:
        if self.cache_load_factor is not None and self.kernel != "uvm_caching":
            raise ValueError("cache_load_factor only with kernel uvm_caching")
        if self.kernel == "dense" and self.sharding != ("data_parallel",):
            raise ValueError("kernel dense only with sharding data_parallel")
        if self.kernel not in (None, "dense") and "data_parallel" in (self.sharding or ()):
            raise ValueError(
                f"no data_parallel with kernel {self.kernel}: a replicated table is dense "
                "(drop one of the two)"
            )
        return self
