"""TableReader: reads the slices of tables that a rank needs from a checkpoint's files."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from recsys.errors import RecsysError
from recsys.training.checkpoint.layout import LAYOUT_FILE, Layout, to_metadata

READ_BYTES = 64 * 2**20  # at a time: a piece may be larger than the free memory


class TableReader(StorageReader):
    """Reads the slices that a load plan asks for, from the files of a checked layout."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self.layout = layout
        self.chunks = {
            MetadataIndex(name, chunk.offsets): chunk
            for name, tensor in layout.tensors.items()
            for chunk in tensor.chunks
        }

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        pass

    def read_metadata(self, *args: object, **kwargs: object) -> Metadata:
        return to_metadata(self.layout)

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: object, **kwargs: object
    ) -> None:
        pass

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        items_by_file: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            items_by_file.setdefault(self.chunks[item.storage_index].file, []).append(item)
        for file, items in items_by_file.items():
            self._read_file(self.folder / file, items, planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _read_file(self, path: Path, items: list[ReadItem], planner: LoadPlanner) -> None:
        if path.is_symlink() or not path.is_file():
            raise RecsysError(f"{path.name} is missing", where=path.parent)
        try:
            with safe_open(path, framework="pt") as file, torch.no_grad():
                for item in items:
                    chunk = self.chunks[item.storage_index]
                    stored = file.get_slice(chunk.key)
                    if tuple(stored.get_shape()) != chunk.sizes:
                        raise RecsysError(f"{chunk.key} is not as {LAYOUT_FILE} says", where=path)
                    target = planner.resolve_tensor(item).detach()
                    _copy(stored, item, target)
        except (SafetensorError, OSError) as error:
            raise RecsysError("a file is damaged", where=path, got=str(error)) from None

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True


def _copy(
    stored: Any,  # noqa: ANN401  safetensors has no name for the type of its slices
    item: ReadItem,
    target: Tensor,
) -> None:
    """Copies the box that the item names, a block of rows at a time."""
    if not item.lengths:
        target.copy_(stored[...])
        return
    first, columns = (
        item.storage_offsets[0],
        tuple(
            slice(o, o + n) for o, n in zip(item.storage_offsets[1:], item.lengths[1:], strict=True)
        ),
    )
    row_bytes = max(1, target[:1].nbytes)
    step = max(1, READ_BYTES // row_bytes)
    for row in range(0, item.lengths[0], step):
        rows = slice(first + row, first + min(row + step, item.lengths[0]))
        target[row : row + step].copy_(stored[(rows, *columns)])
