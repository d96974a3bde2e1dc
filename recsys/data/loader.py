"""BatchLoader: the batches of an epoch in order, made ahead of time by background threads.

Threads and not processes: decoding, copying and torch operations release the interpreter's lock,
and a batch crosses no process border.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from recsys.compat.threads import compute_alone
from recsys.data.assemble import BatchAssembler
from recsys.data.batch import Batch, Cursor
from recsys.data.config import DataConfig
from recsys.data.parquet import RowGroupColumns, RowGroups, WindowColumns, gather_window
from recsys.data.row_order import FileOrder, RowOrder, ShuffledOrder, Window
from recsys.data.shared_cache import SharedCache
from recsys.schema import Schema

Transform = Callable[[Batch], Batch]


class BatchLoader:
    """One rank's batches of one split; iterating gives those of the current epoch.

    Every rank has the same number of batches; its share of the last one may have no rows.
    """

    def __init__(  # noqa: PLR0913 (which rows, in which order, whose share: none can be guessed)
        self,
        dataset_dir: Path,
        schema: Schema,
        split: str,
        config: DataConfig,
        *,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        transform: Transform | None = None,
    ) -> None:
        """`shuffle=False` leaves the rows in file order; `transform` runs in the threads."""
        self.config = config
        self.transform = transform
        row_groups = RowGroups(dataset_dir, schema, split)
        group_rows = [group.rows for group in row_groups.groups]
        order: RowOrder
        if shuffle:
            order = ShuffledOrder(group_rows, config, seed, rank, world_size)
        else:
            order = FileOrder(group_rows, config, rank, world_size)
        # A split that fits in the shuffle memory is decoded once and for all.
        fits = sum(group_rows) <= config.shuffle_rows
        self.reader = BatchReader(row_groups, order, kept_groups=len(group_rows) if fits else 1)
        self.start = Cursor(epoch=0, batch=0)

    def __len__(self) -> int:
        """Batches in a whole epoch, wherever the current one starts."""
        return self.reader.order.num_batches

    def set_epoch(self, epoch: int) -> None:
        """The next iteration gives this epoch, from its first batch unless resumed inside it."""
        if epoch != self.start.epoch:
            self.start = Cursor(epoch, batch=0)

    def start_at(self, cursor: Cursor) -> None:
        """The next iteration starts with exactly this batch."""
        self.start = cursor

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.start
        pool = ThreadPoolExecutor(
            self.config.num_workers, thread_name_prefix="batch-loader", initializer=compute_alone
        )
        ready: deque[Future[Batch]] = deque()
        try:
            for batch in range(first, len(self)):
                ready.append(self._submit(pool, Cursor(epoch, batch)))
                if len(ready) > self.config.prefetch_batches:
                    yield ready.popleft().result()
            while ready:
                yield ready.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            self.reader.windows.clear()

    def _submit(self, pool: ThreadPoolExecutor, cursor: Cursor) -> Future[Batch]:
        for window in self.reader.order.due(cursor):
            if window not in self.reader.windows:
                pool.submit(self.reader.window, window)
        return pool.submit(self._make, cursor)

    def _make(self, cursor: Cursor) -> Batch:
        batch = self.reader.batch(cursor)
        return batch if self.transform is None else self.transform(batch)


class BatchReader:
    """Makes one rank's share of any batch; the threads that ask share decoded windows."""

    def __init__(self, row_groups: RowGroups, order: RowOrder, kept_groups: int) -> None:
        """`kept_groups`: so many row groups stay decoded, for windows that share them."""
        self.row_groups = row_groups
        self.order = order
        self.assembler = BatchAssembler(row_groups.schema)
        self.windows: SharedCache[Window, WindowColumns] = SharedCache(order.open_windows)
        self.groups: SharedCache[int, RowGroupColumns] = SharedCache(kept_groups)

    def batch(self, cursor: Cursor) -> Batch:
        """The rows of global batch `cursor.batch` of `cursor.epoch` that are this rank's."""
        parts = [
            (self.window(window), start, stop) for window, start, stop in self.order.slices(cursor)
        ]
        return self.assembler.assemble(parts, cursor, self.order.batch_rows(cursor.batch))

    def window(self, window: Window) -> WindowColumns:
        """The rows of a window, decoded and in their final order."""
        return self.windows.get(window, lambda: self._decode(window))

    def _decode(self, window: Window) -> WindowColumns:
        parts = [(self._group(piece.group), piece.start, piece.stop) for piece in window.pieces]
        if window.seed is None:
            return gather_window(parts, np.arange(window.rows))
        return gather_window(parts, np.random.default_rng(window.seed).permutation(window.rows))

    def _group(self, number: int) -> RowGroupColumns:
        return self.groups.get(number, lambda: self.row_groups.read(number))
