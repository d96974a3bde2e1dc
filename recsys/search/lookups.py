"""Lookups with another gradient: none at all, or into copies of the rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.data.jagged_ids import KeyedIds
from recsys.embeddings.combine import sum_by_row
from recsys.embeddings.tables.base import TableGroup
from recsys.models.ctr_model import CTRModel

Replacement = Callable[[TableGroup, KeyedIds, Tensor], Tensor]


@contextmanager
def detached_tables(model: CTRModel) -> Iterator[None]:
    """Lookups inside pass no gradient on: fused tables would be updated by it."""
    with _replaced(model, lambda group, rows, found: found.detach()):
        yield


@contextmanager
def copied_rows(model: CTRModel, copies: "RowCopies", values: Sequence[Tensor]) -> Iterator[None]:
    """Lookups inside read `values`, in the order of `copies.weights`."""
    named = dict(zip(copies.numbers, values, strict=True))
    combiner = model.embeddings.combiner
    combiner.sum_by_row = _sum_by_owner  # has a second derivative
    try:
        with _replaced(model, lambda group, rows, found: copies.look_up(group, rows, named)):
            yield
    finally:
        combiner.sum_by_row = sum_by_row


def _sum_by_owner(vectors: Tensor, lengths: Tensor) -> Tensor:
    """(L, d) in bags of `lengths` (B,) → (B, d)."""
    owners = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths.long())
    return vectors.new_zeros(len(lengths), vectors.shape[1]).index_add(0, owners, vectors)


@contextmanager
def _replaced(model: CTRModel, replace: Replacement) -> Iterator[None]:
    def hook(group: nn.Module, arguments: tuple[KeyedIds], found: Tensor) -> Tensor:
        if not isinstance(group, TableGroup):
            raise TypeError(f"a store has groups of tables, not a {type(group).__name__}")
        return replace(group, arguments[0], found)

    groups = model.embeddings.store.groups.values()
    handles = [group.register_forward_hook(hook) for group in groups]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class RowCopies:
    """The rows that some batches read, as plain tensors that can be differentiated twice.

    numbers: the sorted row numbers, by table. weights: their values, (rows, d), in that order.
    """

    def __init__(self, model: CTRModel, batches: Sequence[Batch]) -> None:
        store = model.embeddings.store
        found: dict[str, list[Tensor]] = {}
        for batch in batches:
            for name, group in store.groups.items():
                rows = batch.lookups[name].rows
                for look in group.lookups:
                    found.setdefault(look.table, []).append(rows[look.key].values().long())
        self.numbers = {table: torch.unique(torch.cat(parts)) for table, parts in found.items()}
        weights: Mapping[str, Tensor] = store.weights()
        self.weights = [
            weights[table][numbers].clone().requires_grad_()
            for table, numbers in self.numbers.items()
        ]

    def look_up(self, group: TableGroup, rows: KeyedIds, values: Mapping[str, Tensor]) -> Tensor:
        """What the group would return, (B, Σd), from copies."""
        sums = []
        for look in group.lookups:
            bag = rows[look.key]
            places = torch.searchsorted(self.numbers[look.table], bag.values().long())
            sums.append(_sum_by_owner(values[look.table][places], bag.lengths().long()))
        return torch.cat(sums, dim=1)
