"""Checkpoints without pickle: tensors in safetensors, everything else in JSON, and checksums.

A checkpoint folder gets its name only when it is complete. Training waits while the state is
copied in memory; a background thread then writes the copies to disk in order.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from torch import Tensor

from recsys.compat.threads import compute_alone
from recsys.errors import RecsysError
from recsys.io.atomic import Partial, remove_folder
from recsys.io.checksums import verify_checksums, write_checksums
from recsys.training.checkpoint.replicated_state import ReplicatedState, read_state, write_state
from recsys.training.checkpoint.table_storage import (
    StagedTables,
    load_tables,
    stage_tables,
    write_staged,
)

TABLES = "tables"  # the folder, and the key of the tables' live state in what is to be saved
MODEL_PREFIX = "model."  # of dense weights in a checkpoint to resume from
WEIGHT = "/weight"  # suffix of a weight's name in a store's state; other names are optimizer state


@dataclass(frozen=True)
class _Staged:
    """One checkpoint in memory.

    `replicated` on rank 0 only, `tables` on every rank that has some.
    """

    final: Path
    replicated: ReplicatedState | None
    tables: StagedTables | None


class SafetensorsCheckpointIO(CheckpointIO):
    """Converts between Lightning's checkpoint dict and a folder, on every rank.

    `group` is a gloo group reserved for the writer thread; None for a single process. An error in
    the thread is raised by the next call.
    """

    def __init__(self, group: dist.ProcessGroup | None = None, rank: int = 0) -> None:
        self.group, self.rank = group, rank
        self._thread: ThreadPoolExecutor | None = None
        self._writes: deque[Future[None]] = deque()
        self._actions: deque[Future[None]] = deque()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Copies the state and queues it for writing; every rank must call it.

        `checkpoint["tables"]` is a store's live state; the rest is equal on all ranks.
        """
        _collect(self._writes, at_most=1)  # two copies in memory; a slower disk makes training wait
        _collect(self._actions, at_most=2)
        tables = checkpoint.get(TABLES)
        rest = {key: value for key, value in checkpoint.items() if key != TABLES}
        staged = _Staged(
            Path(path),
            ReplicatedState.copy_of(rest) if self.rank == 0 else None,
            stage_tables(tables, self.group) if tables is not None else None,
        )
        self._writes.append(self._start(lambda: self._write(staged)))

    def then(self, action: Callable[[], None]) -> None:
        """Runs a function on rank 0 after everything queued so far is on disk.

        Not if a write failed.
        """
        before = list(self._writes)

        def act() -> None:
            if self.rank == 0 and all(write.exception() is None for write in before):
                action()

        self._actions.append(self._start(act))

    def wait(self) -> None:
        """Returns when everything is on disk; raises what went wrong."""
        _collect(self._writes, at_most=0)
        _collect(self._actions, at_most=0)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: object = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads the part that is equal on all ranks.

        Checks all checksums, those of tables included.
        """
        self.wait()
        share = (self.rank, 1 if self.group is None else dist.get_world_size(self.group))
        self._together(lambda: verify_checksums(Path(path), share=share))
        return read_state(Path(path))

    def load_tables(self, path: Path, live: Mapping[str, Tensor]) -> None:
        """Fills a store's live state from a checkpoint that `load_checkpoint` has accepted."""
        self.wait()
        load_tables(path / TABLES, live, self.group)

    def save_weights(
        self, dense_state: Mapping[str, Tensor], tables_state: Mapping[str, Tensor], path: Path
    ) -> None:
        """Weights alone, for evaluation and export; optimiser state in `tables_state` is left."""
        self.save_checkpoint(
            {"state_dict": dict(dense_state), TABLES: _weights(tables_state)}, path
        )

    def load_weights(
        self, path: Path, tables_live: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The dense weights in a folder of either kind; the tables are filled in place."""
        dense: dict[str, Tensor] = self.load_checkpoint(path)["state_dict"]
        if tables_live is not None:
            load_tables(path / TABLES, _weights(tables_live), self.group, all_of_it=False)
        return dense

    def remove_checkpoint(self, path: str | Path) -> None:
        remove_folder(Path(path))

    def teardown(self) -> None:
        """Stops the thread after its last write."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _start(self, work: Callable[[], None]) -> Future[None]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(
                1, thread_name_prefix="checkpoint", initializer=compute_alone
            )
        return self._thread.submit(work)

    def _write(self, staged: _Staged) -> None:
        """Runs in the thread, on every rank: writes the parts, then publishes the folder."""
        begun: list[Partial] = []  # on the first rank
        try:
            self._on_first_rank(lambda: begun.append(_begin(staged)))
            known = {}
            if staged.tables is not None:
                folder = self._from_first_rank(begun[0].path if begun else None)
                written = write_staged(staged.tables, folder / TABLES, self.group)
                known = {f"{TABLES}/{file}": digest for file, digest in written.items()}
            self._on_first_rank(lambda: _finish(begun[0], known))
        except (OSError, SafetensorError, RecsysError, RuntimeError) as error:
            raise RecsysError(
                "the checkpoint could not be written",
                where=staged.final,
                got=" ".join(str(error).split()),
                fix="free space or choose another --out, then continue with --resume",
            ) from None
        finally:
            for partial in begun:
                partial.discard()

    def _from_first_rank(self, path: Path | None) -> Path:
        """Returns rank 0's path on every rank."""
        box = [path]
        if self.group is not None:
            dist.broadcast_object_list(box, group=self.group, group_src=0)
        assert box[0] is not None  # the first rank has one
        return box[0]

    def _on_first_rank(self, step: Callable[[], None]) -> None:
        self._together(step if self.rank == 0 else lambda: None)

    def _together(self, step: Callable[[], None]) -> None:
        """Runs a step on each rank; if it fails on one, all ranks raise that error."""
        if self.group is None:
            step()
            return
        failure = None
        try:
            step()
        except (OSError, SafetensorError, RecsysError) as error:
            failure = str(error)
        failures: list[str | None] = [None] * dist.get_world_size(self.group)
        dist.all_gather_object(failures, failure, group=self.group)
        for text in failures:
            if text is not None:
                raise RecsysError(text)


def _collect(futures: deque[Future[None]], at_most: int) -> None:
    """Forgets finished writes and waits until at most `at_most` are left; raises their errors."""
    while len(futures) > at_most or (futures and futures[0].done()):
        futures.popleft().result()


def _begin(staged: _Staged) -> Partial:
    partial = Partial(staged.final)
    try:
        partial.path.mkdir()
        if staged.replicated is not None:
            write_state(staged.replicated, partial.path)
    except BaseException:
        partial.discard()
        raise
    return partial


def _finish(partial: Partial, known: Mapping[str, str]) -> None:
    write_checksums(partial.path, known)
    partial.publish()


def _weights(tables_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tables_state.items() if name.endswith(WEIGHT)}


def save_weights(
    dense_state: Mapping[str, Tensor], tables_state: Mapping[str, Tensor], path: Path
) -> None:
    """Weights alone, as a whole folder, from one process."""
    io = SafetensorsCheckpointIO()
    io.save_weights(dense_state, tables_state, path)
    io.wait()
    io.teardown()


def load_weights(path: Path, tables_live: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The same in one process, which can read what many have written."""
    return SafetensorsCheckpointIO().load_weights(path, tables_live)
