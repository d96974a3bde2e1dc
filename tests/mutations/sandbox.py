"""Runs a command on mutated files in a process of its own, and sees what it must not do.

Faults: a traceback, a signal, more than 20 s, more than one message, an exit code other than 0 and
2, and files outside the case's folder that were read (by their access time), written or added.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.faults.commands import Outcome
from tests.faults.forked import Forked

TIME_LIMIT_SECONDS = 20.0
MEMORY_BYTES = 12 * 2**30  # address space; torch alone takes 5 GB of it
CANARIES = ("canary.txt", "canary.parquet", "canary.json", "canary.yaml", "canary.safetensors")


@dataclass(frozen=True)
class Verdict:
    """`fault` is None when the command refused the change with one message or accepted it."""

    code: int
    fault: str | None
    message: str
    seconds: float


class Sandbox:
    """A folder for one case after another, beside a folder of files that nothing may touch."""

    def __init__(self, root: Path) -> None:
        self.work, self.outside = root / "work", root / "outside"
        self.forked = Forked()
        self.outside.mkdir(parents=True)
        self._write_canaries()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.forked.close()

    def fresh(self, pristine: Path) -> Path:
        """A copy of the pristine folder to be damaged."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(pristine, self.work, symlinks=True)
        (self.work / "tmp").mkdir()
        return self.work

    def forget(self) -> None:
        """What was read so far was read by the test itself."""
        self._write_canaries()

    def run(self, arguments: Sequence[object]) -> Verdict:
        """One command, judged."""
        limits = {"TMPDIR": str(self.work / "tmp")}
        begun = time.perf_counter()
        command = self.forked.start(*arguments, env=limits, memory_bytes=MEMORY_BYTES)
        timer = threading.Timer(TIME_LIMIT_SECONDS, os.kill, (command.pid, signal.SIGKILL))
        timer.start()
        outcome = command.wait()
        timer.cancel()
        seconds = time.perf_counter() - begun
        fault = _fault(outcome, seconds) or self._touched()
        return Verdict(outcome.code, fault, outcome.err[-4000:], seconds)

    def _touched(self) -> str | None:
        names = sorted(path.name for path in self.outside.iterdir())
        touched = [n for n in names if n not in CANARIES] + [
            n for n in CANARIES if n not in names or self._is_touched(self.outside / n)
        ]
        if not touched:
            return None
        shutil.rmtree(self.outside)
        self.outside.mkdir()
        self._write_canaries()
        return f"outside its folder: {', '.join(touched)}"

    def _is_touched(self, path: Path) -> bool:
        facts = path.stat()
        return facts.st_atime_ns != 0 or facts.st_size != len(path.name)

    def _write_canaries(self) -> None:
        """An access time of 0 is set anew by the first read, on file systems that keep them."""
        for name in CANARIES:
            path = self.outside / name
            path.write_text(name)
            os.utime(path, (0, path.stat().st_mtime))


def _fault(outcome: Outcome, seconds: float) -> str | None:
    if seconds > TIME_LIMIT_SECONDS - 1:
        return "longer than 20 s"
    if outcome.code < 0:
        return f"ended by signal {-outcome.code}"
    if "Traceback" in outcome.out + outcome.err:
        return "a traceback"
    if outcome.code == 0:
        return None
    if outcome.code != 2:
        return f"exit code {outcome.code}"
    return None if outcome.err.count("error: ") == 1 else "not exactly one message"
