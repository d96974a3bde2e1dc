"""Which rows make up global batch k, and in which order: integer arithmetic, no files.

Elastic determinism: the rows of global batch k follow from (seed, epoch, k) alone. The split's
rows are cut into S logical shards, contiguous ranges of rows, and every global batch takes a fixed
share from each. A rank owns a contiguous block of shards, so the ranks' batches, laid end to end,
are the same global batch whatever their number, and each rank reads only its own part of the
files. (The name is MosaicML streaming's.)

Inside a shard the pieces of row groups that it covers are permuted, consecutive pieces form
windows, and the rows of a window are permuted.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

import numpy as np

from recsys.data.batch import Cursor
from recsys.data.config import DataConfig
from recsys.data.shared_cache import SharedCache
from recsys.errors import RecsysError


class Piece(NamedTuple):
    """Rows [start, stop) of row group `group` of the split."""

    group: int
    start: int
    stop: int


class Window(NamedTuple):
    """Rows that are decoded together; `seed` permutes them, None leaves the order of the files."""

    pieces: tuple[Piece, ...]
    rows: int
    seed: tuple[int, ...] | None


class Slice(NamedTuple):
    """Rows [start, stop) of a window, counted after its permutation."""

    window: Window
    start: int
    stop: int


class RowOrder(Protocol):
    """One rank's rows of every global batch."""

    num_batches: int

    def batch_rows(self, batch: int) -> int:
        """Rows of the global batch, all ranks together."""

    def slices(self, cursor: Cursor) -> list[Slice]:
        """Where this rank's share of the batch lies, in the order of its rows."""

    def due(self, cursor: Cursor) -> list[Window]:
        """The windows that should be decoded by now: the batch's own, and some that follow."""

    @property
    def open_windows(self) -> int:
        """How many windows are in use or under way at any time."""


class Stream:
    """Windows laid end to end; a batch is a range of its rows."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = tuple(windows)
        self.bounds = [0, *accumulate(window.rows for window in self.windows)]

    def slices(self, start: int, stop: int) -> list[Slice]:
        """The parts of windows that hold rows [start, stop) of the stream."""
        found = []
        while start < stop:
            index = bisect_right(self.bounds, start) - 1
            low, high = self.bounds[index], min(self.bounds[index + 1], stop)
            found.append(Slice(self.windows[index], start - low, high - low))
            start = high
        return found

    def due(self, start: int, stop: int, delay: float) -> list[Window]:
        """The windows of rows [start, stop), and the next one once `delay` of the last is used."""
        if start >= stop:
            return []
        first = bisect_right(self.bounds, start) - 1
        last = bisect_right(self.bounds, stop - 1) - 1
        used = (stop - self.bounds[last]) / self.windows[last].rows
        return list(self.windows[first : last + 1 + (used >= delay)])


class FileOrder:
    """Rows as the files have them: batch k is rows [kG, (k+1)G), each rank a contiguous part."""

    open_windows = 3

    def __init__(
        self, group_rows: Sequence[int], config: DataConfig, rank: int, ranks: int
    ) -> None:
        self.rows = sum(group_rows)
        self.batch_size, self.rank, self.ranks = config.global_batch_size, rank, ranks
        self.num_batches = -(-self.rows // self.batch_size)
        pieces = [Piece(group, 0, rows) for group, rows in enumerate(group_rows) if rows]
        self.stream = Stream([_window(part, None) for part in _fill(pieces, config.window_rows)])

    def batch_rows(self, batch: int) -> int:
        return min(self.batch_size, self.rows - batch * self.batch_size)

    def _range(self, batch: int) -> tuple[int, int]:
        first, size = batch * self.batch_size, self.batch_rows(batch)
        start, stop = (first + rank * size // self.ranks for rank in (self.rank, self.rank + 1))
        return start, stop

    def slices(self, cursor: Cursor) -> list[Slice]:
        return self.stream.slices(*self._range(cursor.batch))

    def due(self, cursor: Cursor) -> list[Window]:
        return self.stream.due(*self._range(cursor.batch), delay=0.0)


class ShuffledOrder:
    """Rows shuffled by (seed, epoch); the shards of one rank.

    Shard s gives every full batch the rows ⌊(s+1)G/S⌋ - ⌊sG/S⌋, and the last, short batch of T
    rows ⌊(s+1)T/S⌋ - ⌊sT/S⌋, so any block of shards has its part of any batch to within one row.
    """

    def __init__(
        self, group_rows: Sequence[int], config: DataConfig, seed: int, rank: int, ranks: int
    ) -> None:
        num_shards = config.num_shards
        if ranks > num_shards:
            raise RecsysError(
                f"{num_shards} shards cannot be divided among {ranks} ranks",
                where="data.num_shards",
                expected=f"at least {ranks}, best a multiple of it",
                got=num_shards,
                fix=f"raise data.num_shards to {ranks} (this changes which rows share a batch)",
            )
        self.batch_size, self.num_shards = config.global_batch_size, num_shards
        self.full_batches, self.tail = divmod(sum(group_rows), self.batch_size)
        self.num_batches = self.full_batches + (self.tail > 0)
        self.group_bounds = [0, *accumulate(group_rows)]
        self.window_rows, self.seed = config.window_rows, seed
        self.shards = range(rank * num_shards // ranks, (rank + 1) * num_shards // ranks)
        self.streams: SharedCache[int, list[Stream]] = SharedCache(capacity=2)

    @property
    def open_windows(self) -> int:
        return 2 * len(self.shards) + 1

    def batch_rows(self, batch: int) -> int:
        return self.batch_size if batch < self.full_batches else self.tail

    def slices(self, cursor: Cursor) -> list[Slice]:
        ranges = (self._range(shard, cursor.batch) for shard in self.shards)
        streams = self._streams(cursor.epoch)
        return [
            part
            for stream, (start, stop) in zip(streams, ranges, strict=True)
            for part in stream.slices(start, stop)
        ]

    def due(self, cursor: Cursor) -> list[Window]:
        # Windows end at about the same batch in every shard. Each shard asks for its next one at
        # another moment of its current one, so that decoding is spread evenly over time.
        due: list[Window] = []
        for position, stream in enumerate(self._streams(cursor.epoch)):
            start, stop = self._range(self.shards[position], cursor.batch)
            due += stream.due(start, stop, delay=position / len(self.shards))
        return due

    def _share(self, shard: int, rows: int) -> int:
        """How many of `rows` rows belong to the shards before `shard`."""
        return shard * rows // self.num_shards

    def _shard_start(self, shard: int) -> int:
        per_batch = self._share(shard, self.batch_size)
        return self.full_batches * per_batch + self._share(shard, self.tail)

    def _range(self, shard: int, batch: int) -> tuple[int, int]:
        """The rows of the shard's stream that `batch` takes."""
        per_batch = self._share(shard + 1, self.batch_size) - self._share(shard, self.batch_size)
        if batch < self.full_batches:
            return batch * per_batch, (batch + 1) * per_batch
        tail = self._share(shard + 1, self.tail) - self._share(shard, self.tail)
        return self.full_batches * per_batch, self.full_batches * per_batch + tail

    def _streams(self, epoch: int) -> list[Stream]:
        return self.streams.get(
            epoch, lambda: [self._shuffled_shard(epoch, shard) for shard in self.shards]
        )

    def _shuffled_shard(self, epoch: int, shard: int) -> Stream:
        start, stop = self._shard_start(shard), self._shard_start(shard + 1)
        pieces = list(_pieces(self.group_bounds, start, stop))
        # numpy pads short seeds with zeros, so window w takes w + 1 and leaves 0 to the pieces.
        order = np.random.default_rng((self.seed, epoch, shard, 0)).permutation(len(pieces))
        windows = _fill([pieces[i] for i in order], self.window_rows)
        return Stream(
            [
                _window(part, (self.seed, epoch, shard, number))
                for number, part in enumerate(windows, start=1)
            ]
        )


def _window(pieces: Sequence[Piece], seed: tuple[int, ...] | None) -> Window:
    return Window(tuple(pieces), sum(piece.stop - piece.start for piece in pieces), seed)


def _pieces(group_bounds: Sequence[int], start: int, stop: int) -> Iterable[Piece]:
    """Rows [start, stop) of the split, cut at the bounds of the row groups."""
    group = bisect_right(group_bounds, start) - 1
    while start < stop:
        low, high = group_bounds[group], min(group_bounds[group + 1], stop)
        if start < high:
            yield Piece(group, start - low, high - low)
        start, group = max(start, high), group + 1


def _fill(pieces: Sequence[Piece], window_rows: int) -> Iterable[list[Piece]]:
    """Consecutive pieces in windows of about equal size, near to `window_rows`."""
    if not pieces:
        return
    ends = np.cumsum([piece.stop - piece.start for piece in pieces])
    total = int(ends[-1])
    num_windows = max(1, round(total / window_rows))
    middles = (ends + np.concatenate([[0], ends[:-1]])) / 2
    numbers = (middles * num_windows / total).astype(int).tolist()
    for _, window in groupby(zip(numbers, pieces, strict=True), key=itemgetter(0)):
        yield [piece for _, piece in window]
