"""TensorRecord: a dataclass of tensors that move together."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch


@runtime_checkable
class Movable(Protocol):
    """A tensor, a record, or torchrec's KeyedJaggedTensor."""

    def to(self, device: torch.device, non_blocking: bool = ...) -> Self: ...

    def pin_memory(self) -> Self: ...

    def record_stream(self, stream: torch.Stream) -> None: ...


class TensorRecord:
    """Base of dataclasses; their fields are tensors, records, dicts of these, or plain values.

    Plain values (names, sizes, None) are passed on as they are.
    """

    def to(self, device: torch.device, non_blocking: bool = False) -> Self:
        """The same record on another device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same record in page-locked memory, for asynchronous copies to a GPU."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the allocator that `stream` uses the tensors (torchrec's pipelines call it)."""

        def record(tensor: Movable) -> Movable:
            tensor.record_stream(stream)
            return tensor

        self._mapped(record)

    def _mapped(self, change: Callable[[Movable], Movable]) -> Self:
        changed = {f.name: _changed(getattr(self, f.name), change) for f in fields(self)}  # type: ignore[arg-type]  # subclasses are dataclasses
        return replace(self, **changed)  # type: ignore[type-var]  # the same


def _changed(value: Any, change: Callable[[Movable], Movable]) -> Any:  # noqa: ANN401  any field
    if isinstance(value, dict):
        return {name: _changed(item, change) for name, item in value.items()}
    return change(value) if isinstance(value, Movable) else value
