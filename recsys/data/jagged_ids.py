"""JaggedIds: ids of several keys, a list of any length for each key and row of a batch."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol, Self, runtime_checkable

from torch import Tensor
from torch.nn import functional as F

from recsys.data.tensor_record import Movable, TensorRecord


class KeyIds(Protocol):
    """The ids of one key."""

    def values(self) -> Tensor: ...

    def lengths(self) -> Tensor: ...

    def offsets(self) -> Tensor: ...


@runtime_checkable
class KeyedIds(KeyIds, Protocol):
    """What reads alike in `JaggedIds` and in torchrec's KeyedJaggedTensor."""

    def keys(self) -> list[str]: ...

    def stride(self) -> int: ...

    def __getitem__(self, key: str) -> KeyIds: ...


class JaggedIds(TensorRecord):
    """Ids of K keys for B rows: the lists of the first key end to end, then those of the second.

    Has the accessors of torchrec's KeyedJaggedTensor, which the fused and the sharded groups make
    of it without a copy. All other code reads either, so it needs no torchrec.
    """

    def __init__(
        self,
        keys: Sequence[str],
        values: Tensor,
        lengths: Tensor,
        offsets: Tensor | None = None,
        stride: int | None = None,
        length_per_key: list[int] | None = None,
        offset_per_key: list[int] | None = None,
    ) -> None:
        """Sizes that are not given are counted, which waits for a GPU: give CPU tensors.

        Args:
            keys: K names.
            values: (L,) int32, all ids.
            lengths: (K·B,) int32, ids of each list.
            offsets: (K·B + 1,) int32, where each list begins; computed when asked for.
            stride: B.
            length_per_key: ids of each key.
            offset_per_key: where the ids of each key begin, and L.
        """
        self._keys, self._values, self._lengths = list(keys), values, lengths
        self._stride = len(lengths) // max(len(keys), 1) if stride is None else stride
        if length_per_key is None:
            length_per_key = lengths.view(len(keys), self._stride).sum(dim=1).tolist()
        self._length_per_key = length_per_key
        self._offset_per_key = offset_per_key or [0, *accumulate(length_per_key)]
        self.given_offsets = offsets

    def keys(self) -> list[str]:
        """The names, in order."""
        return self._keys

    def values(self) -> Tensor:
        """All ids, (L,)."""
        return self._values

    def lengths(self) -> Tensor:
        """Ids of each list, (K·B,)."""
        return self._lengths

    def offsets(self) -> Tensor:
        """Where each list begins, and L; (K·B + 1,)."""
        if self.given_offsets is None:
            return F.pad(self._lengths.cumsum(0, dtype=self._lengths.dtype), (1, 0))
        return self.given_offsets

    def stride(self) -> int:
        """B, the rows of the batch."""
        return self._stride

    def length_per_key(self) -> list[int]:
        """Ids of each key."""
        return self._length_per_key

    def offset_per_key(self) -> list[int]:
        """Where the ids of each key begin, and L."""
        return self._offset_per_key

    def __getitem__(self, key: str) -> "JaggedIds":
        """The ids of one key, as views."""
        number = self._keys.index(key)
        first, last = self._offset_per_key[number : number + 2]
        start, stop = number * self._stride, (number + 1) * self._stride
        return JaggedIds(
            [key],
            self._values[first:last],
            self._lengths[start:stop],
            stride=self._stride,
            length_per_key=[last - first],
            offset_per_key=[0, last - first],
        )

    def _mapped(self, change: Callable[[Movable], Movable]) -> Self:
        return type(self)(
            self._keys,
            change(self._values),  # type: ignore[arg-type]  # a tensor's copy is a tensor
            change(self._lengths),  # type: ignore[arg-type]  # the same
            None if self.given_offsets is None else change(self.given_offsets),  # type: ignore[arg-type]  # the same
            self._stride,
            self._length_per_key,
            self._offset_per_key,
        )
