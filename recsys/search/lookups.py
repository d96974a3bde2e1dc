"""Lookups with another gradient: none at all, or into copies of the rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.batch import Batch
from recsys.embeddings.combine import sum_by_row
from recsys.embeddings.tables.base import TableGroup, TableStore
from recsys.models.ctr_model import CTRModel

Replacement = Callable[[TableGroup, KeyedJaggedTensor, Tensor], Tensor]


@contextmanager
def detached_tables(model: CTRModel) -> Iterator[None]:
    """Lookups inside pass no gradient on: fused tables would be updated by it."""
    with _replaced(model, lambda group, rows, found: found.detach()):
        yield


@contextmanager
def copied_rows(model: CTRModel, copies: "RowCopies", values: Sequence[Tensor]) -> Iterator[None]:
    """Lookups inside read `values`, in the order of `copies.weights`."""
    named = dict(zip(copies.numbers, values, strict=True))
    combination = model.embeddings.combination
    combination.sum_by_row = _sum_by_owner  # has a second derivative
    try:
        with _replaced(model, lambda group, rows, found: copies.look_up(group, rows, named)):
            yield
    finally:
        combination.sum_by_row = sum_by_row


def _sum_by_owner(vectors: Tensor, lengths: Tensor) -> Tensor:
    """(L, d) in bags of `lengths` (B,) → (B, d)."""
    owners = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths.long())
    return vectors.new_zeros(len(lengths), vectors.shape[1]).index_add(0, owners, vectors)


@contextmanager
def _replaced(model: CTRModel, replace: Replacement) -> Iterator[None]:
    def hook(group: nn.Module, arguments: tuple[KeyedJaggedTensor], found: Tensor) -> Tensor:
        if not isinstance(group, TableGroup):
            raise TypeError(f"a store has groups of tables, not a {type(group).__name__}")
        return replace(group, arguments[0], found)

    groups = model.embeddings.store.groups
    handles = [group.register_forward_hook(hook) for group in groups]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows_for(group: TableGroup, store: TableStore, batch: Batch) -> KeyedJaggedTensor:
    """What the batch asks of this group."""
    if group is store.bags:
        return batch.sparse
    asked = batch.occurrences if group is store.occurrences else batch.attention
    if asked is None:
        raise TypeError("a batch without the occurrences that this model asks for")
    return asked.rows


class RowCopies:
    """The rows that some batches read, as plain tensors that can be differentiated twice.

    numbers: the sorted row numbers, by table. weights: their values, (rows, d), in that order.
    """

    def __init__(self, model: CTRModel, batches: Sequence[Batch]) -> None:
        store = model.embeddings.store
        found: dict[str, list[Tensor]] = {}
        for batch in batches:
            for group in store.groups:
                rows = _rows_for(group, store, batch)
                for look in group.lookups:
                    found.setdefault(look.table, []).append(rows[look.key].values().long())
        self.numbers = {table: torch.unique(torch.cat(parts)) for table, parts in found.items()}
        weights: Mapping[str, Tensor] = store.weights()
        self.weights = [
            weights[table][numbers].clone().requires_grad_()
            for table, numbers in self.numbers.items()
        ]

    def look_up(
        self, group: TableGroup, rows: KeyedJaggedTensor, values: Mapping[str, Tensor]
    ) -> Tensor:
        """The group's answer, (B, Σd), from copies."""
        answers = []
        for look in group.lookups:
            bag = rows[look.key]
            places = torch.searchsorted(self.numbers[look.table], bag.values().long())
            answers.append(_sum_by_owner(values[look.table][places], bag.lengths().long()))
        return torch.cat(answers, dim=1)
