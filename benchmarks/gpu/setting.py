"""What every part of the GPU benchmark knows: the device, how long it may take, how it times."""

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

import recsys.compat.torchrec  # noqa: F401  loads fbgemm
from recsys.compat.fbgemm import has_cuda_kernels
from recsys.errors import RecsysError

Point = dict[str, object]


@dataclass(frozen=True)
class Setting:
    """`is_small` shrinks every size to what a CPU does in seconds: it tries the code."""

    device: torch.device
    is_small: bool
    ends_at: float  # time.monotonic()

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def has_fused(self) -> bool:
        return has_cuda_kernels() or not self.is_cuda

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.ends_at

    def attempt(self, what: Point, measure: Callable[..., Point], *arguments: object) -> Point:
        """One measurement; a failure or lack of time is recorded as a point."""
        if self.is_over:
            return {**what, "failed": "not tried: out of time"}
        try:
            return {**what, **measure(*arguments)}
        except (RuntimeError, RecsysError) as error:
            return {**what, "failed": " ".join(str(error).split())[:300]}
        finally:
            gc.collect()  # modules refer to each other: tables must go before the next ones come
            if self.is_cuda:
                torch.cuda.empty_cache()

    def median_milliseconds(self, step: Callable[[], object]) -> float:
        """Of calls one after the other, each timed on the device, after warm-up."""
        warm_up, repeats = (1, 3) if self.is_small else (5, 20)
        for _ in range(warm_up):
            step()
        if not self.is_cuda:
            return statistics.median(_seconds(step) * 1e3 for _ in range(repeats))
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
        torch.cuda.synchronize()
        marks[0].record()
        for mark in marks[1:]:
            step()
            mark.record()
        torch.cuda.synchronize()
        return statistics.median(
            first.elapsed_time(second) for first, second in itertools.pairwise(marks)
        )

    def copy_bytes_per_second(self) -> float:
        """Bytes read and written by a copy inside the device's memory: the reference."""
        source = torch.ones(2**22 if self.is_small else 2**30, device=self.device)  # 4 GiB
        target = torch.empty_like(source)
        milliseconds = self.median_milliseconds(lambda: target.copy_(source))
        return 2 * source.nbytes / milliseconds * 1e3


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_memory_bytes(device: torch.device) -> int | None:
    """Since the last call; None on a CPU."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak


Part = Callable[[Setting], Iterator[Point]]
