"""Where a feature's tables may lie: the values of `embeddings.placement`."""

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

    sharding: one way or several that the planner chooses from.
        table_wise: whole, on one device. column_wise, row_wise: in parts, over all devices.
        table_column_wise, table_row_wise: in parts, over the devices of one node.
        grid: columns over nodes, rows over the devices of each.
        data_parallel: whole on every device, for small tables; a step costs its whole size.
    kernel: where the rows lie. fused: in the device's memory. uvm: in the host's, read from there.
        uvm_caching: in the host's, with a cache of `cache_load_factor` × rows on the device.
        dense: the kernel of data_parallel, and of nothing else.

    With columns split, row-wise Adagrad keeps an accumulator for each part of a row, and a
    replicated table's Adam moves every row at every step: other optimisers than without. The
    planner chooses neither by itself, only where `sharding` asks for it.
    """

    sharding: Annotated[tuple[Sharding, ...] | None, BeforeValidator(_as_tuple)] = Field(
        default=None, min_length=1
    )
    kernel: Kernel | None = None
    # rows in the device's cache ÷ rows of the table, for uvm_caching; 0.2 where not given
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
