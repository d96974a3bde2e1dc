"""BatchReader: any batch by random access; decoded windows are shared by the threads that ask."""

import numpy as np

from recsys.data.assemble import BatchAssembler
from recsys.data.batch import Batch, Cursor
from recsys.data.columns import RowGroupColumns, WindowColumns, gather_window
from recsys.data.row_groups import RowGroups
from recsys.data.row_order import RowOrder, Window
from recsys.data.shared_cache import SharedCache


class BatchReader:
    """Makes one rank's share of any batch."""

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
