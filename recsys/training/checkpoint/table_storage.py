"""The tables of a checkpoint: torch.distributed.checkpoint on safetensors and JSON.

Each rank writes its pieces into one file; `layout.json` says where each piece is, so any other
sharding on any number of ranks can read exactly what it needs. No pickle.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed import ProcessGroup, all_gather_object, get_rank, get_world_size
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import (
    SavePlan,
    SavePlanner,
    WriteItem,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from recsys.compat.torch_internals import ShardedTensor
from recsys.errors import RecsysError
from recsys.io.atomic import sync
from recsys.io.paths import sha256_of
from recsys.training.checkpoint.layout import (
    LAYOUT_FILE,
    Layout,
    WrittenPiece,
    check_fit,
    check_no_more,
    from_metadata,
    read_layout,
)
from recsys.training.checkpoint.table_reader import TableReader

# One process without a process group is intended. Set at import: warning filters are global.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable")


@dataclass(frozen=True)
class StagedTables:
    """Copies of this rank's pieces by tensor and offsets; `live` gives sizes and sharding only."""

    live: Mapping[str, Tensor]
    pieces: Mapping[tuple[str, tuple[int, ...]], Tensor]


def stage_tables(state: Mapping[str, Tensor], group: ProcessGroup | None) -> StagedTables:
    """Copies this rank's pieces to CPU memory.

    Tensors that all ranks have are written by rank 0.
    """
    is_first = group is None or get_rank(group) == 0
    live = {n: t for n, t in state.items() if is_first or isinstance(t, ShardedTensor)}
    pieces = {
        (name, offsets): copy_to_cpu(piece)
        for name, tensor in live.items()
        for offsets, piece in _local_pieces(tensor)
    }
    return StagedTables(live, pieces)


def copy_to_cpu(tensor: Tensor) -> Tensor:
    """A contiguous copy that shares no memory with anything."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _local_pieces(tensor: Tensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    if isinstance(tensor, ShardedTensor):
        for shard in tensor.local_shards():
            yield tuple(shard.metadata.shard_offsets), shard.tensor
    else:
        yield (0,) * tensor.dim(), tensor


def save_tables(
    state: Mapping[str, Tensor], folder: Path, group: ProcessGroup | None
) -> dict[str, str]:
    """Writes a store's state; every rank of `group` calls it. Returns sha256 by file on rank 0."""
    return write_staged(stage_tables(state, group), folder, group)


def write_staged(staged: StagedTables, folder: Path, group: ProcessGroup | None) -> dict[str, str]:
    """The second half of `save_tables`: writes the copies and reads no live tensor."""
    writer = TableWriter(folder)
    try:
        save(
            dict(staged.live),
            storage_writer=writer,
            planner=_StagedPlanner(staged),
            process_group=group,
            no_dist=group is None,
        )
    except CheckpointException as error:
        raise _first_failure(error) from None
    return writer.digests


def load_tables(
    folder: Path,
    live: Mapping[str, Tensor],
    group: ProcessGroup | None,
    *,
    all_of_it: bool = True,
) -> None:
    """Fills a store's live state, however it is sharded; every rank of `group` calls it.

    `all_of_it=False` allows tensors in the folder that are not in `live`.
    """
    layout = _fitting_layout(folder, live, group, all_of_it=all_of_it)
    try:
        load(
            dict(live),
            storage_reader=TableReader(folder, layout),
            planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
            process_group=group,
            no_dist=group is None,
        )
    except CheckpointException as error:
        raise _first_failure(error) from None


def _fitting_layout(
    folder: Path, live: Mapping[str, Tensor], group: ProcessGroup | None, *, all_of_it: bool
) -> Layout:
    """The layout, if it fits every rank.

    A rank has no optimizer state of tables it does not hold.
    """
    names, problem, layout = set(live), None, Layout(tensors={})
    try:
        layout = read_layout(folder)
        check_fit(layout, live, folder)
    except RecsysError as error:
        problem = str(error)
    answers = [(names, problem)]
    if group is not None:
        answers *= get_world_size(group)
        all_gather_object(answers, (names, problem), group=group)
    for _, text in answers:
        if text is not None:
            raise RecsysError(text)
    if all_of_it:
        check_no_more(layout, names.union(*(names for names, _ in answers)), folder)
    return layout


def _first_failure(error: CheckpointException) -> BaseException:
    """torch.distributed.checkpoint gives every rank the errors of all ranks; returns the first."""
    cause, _ = error.failures[min(error.failures)]
    return cause


class _StagedPlanner(DefaultSavePlanner):
    """Plans with the live tensors, writes the staged copies."""

    def __init__(self, staged: StagedTables) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.staged = staged

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        return self.staged.pieces[index.fqn, tuple(index.offset or ())]


class TableWriter(StorageWriter):
    """One safetensors file per rank; the coordinator adds the layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digests: dict[str, str] = {}  # by file, on the coordinator, once it has finished

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        pass

    def set_up_storage_writer(self, is_coordinator: bool, *args: object, **kwargs: object) -> None:
        pass

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return [replace(plan, storage_data=rank) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        path = self.folder / f"rank-{plan.storage_data:05d}.safetensors"
        results: Future[list[WriteResult]] = Future()
        results.set_result(_write_file(path, plan.items, planner) if plan.items else [])
        return results

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        path = self.folder / LAYOUT_FILE
        written = {result.index: result.storage_data for rank in results for result in rank}
        path.write_text(from_metadata(metadata, written).model_dump_json())
        sync(path)
        self.digests = {piece.file: piece.sha256 for piece in written.values()}
        self.digests[LAYOUT_FILE] = sha256_of(path)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True


def _write_file(path: Path, items: list[WriteItem], planner: SavePlanner) -> list[WriteResult]:
    pieces = {}
    for item in items:
        piece = planner.resolve_data(item)
        assert isinstance(piece, Tensor)  # a store's state holds nothing else
        pieces[_key(item.index)] = piece
    try:
        save_file(pieces, path)
        sync(path)
    except (OSError, SafetensorError) as error:
        raise RecsysError("a file could not be written", where=path, got=str(error)) from None
    digest = sha256_of(path)  # just written, so it comes from memory
    return [
        WriteResult(
            index=item.index,
            size_in_bytes=pieces[_key(item.index)].nbytes,
            storage_data=WrittenPiece(path.name, _key(item.index), digest),
        )
        for item in items
    ]


def _key(index: MetadataIndex) -> str:
    """A unique key even if one rank holds several pieces of one tensor."""
    return f"{index.fqn}@{','.join(map(str, index.offset or ()))}"
