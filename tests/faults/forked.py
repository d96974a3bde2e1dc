"""A process that has imported recsys already and forks for every command: real exit codes, cheap.

Where the machine allows it, it lives in a mount namespace of its own, so that tests can give it
small and read-only file systems; what it sees there is read through /proc.
"""

import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.faults.commands import Outcome

IMPORTED_ONCE = (
    "recsys.export.write",
    "recsys.reports",
    "recsys.training.train",
    "data_pipelines",
    "onnxscript",
    "torch.onnx._internal.exporter._core",
)
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


@cache
def can_mount() -> bool:
    """True when a user of this machine may make a mount namespace."""
    if shutil.which("unshare") is None:
        return False
    probe = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


class Forked:
    """The client's side."""

    def __init__(self) -> None:
        prefix = OWN_MOUNTS if can_mount() else []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.faults.forked"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._ask({})  # unshare replaces itself: this is the process we started

    def start(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        memory_bytes: int | None = None,
    ) -> "Command":
        """A command that runs while the test goes on, in an address space of `memory_bytes`."""
        limits = {"env": dict(env or {}), "memory_bytes": memory_bytes}
        return Command(self, {"argv": [str(argument) for argument in arguments], **limits})

    def run(self, *arguments: object) -> Outcome:
        return self.start(*arguments).wait()

    def mount(self, *arguments: object) -> None:
        """`mount` inside; visible to the commands, and under `inside` to the test."""
        assert self._ask({"mount": [str(argument) for argument in arguments]}) == 0

    def inside(self, path: Path) -> Path:
        """The path as the commands see it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def _ask(self, request: dict[str, object]) -> int:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


class Command:
    """A command under way; `pid` is its process."""

    def __init__(self, forked: Forked, request: dict[str, object]) -> None:
        self.forked = forked
        with tempfile.TemporaryDirectory() as folder:  # open files outlive it
            out, err = Path(folder) / "out", Path(folder) / "err"
            self.pid = forked._ask({**request, "out": str(out), "err": str(err)})
            self.out, self.err = out.open(), err.open()

    def wait(self) -> Outcome:
        """Its outcome; a signal that ended it is a negative code."""
        code = self.forked._ask({"wait": self.pid})
        with self.out, self.err:
            return Outcome(code, self.out.read(), self.err.read())


def serve() -> None:
    for module in IMPORTED_ONCE:
        importlib.import_module(module)

    for line in sys.stdin:
        request = json.loads(line)
        if "argv" in request:
            answer = _fork(request)
        elif "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif "mount" in request:
            done = subprocess.run(["mount", *request["mount"]], check=False)
            answer = done.returncode
        else:
            answer = os.getpid()
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _fork(request: dict[str, object]) -> int:
    files = [os.open(str(request[name]), os.O_WRONLY | os.O_CREAT) for name in ("out", "err")]
    pid = os.fork()
    if pid == 0:
        _run(request, files)
    for file in files:
        os.close(file)
    return pid


def _run(request: dict[str, object], files: list[int]) -> None:
    from recsys.cli.main import main

    empty = os.open("/dev/null", os.O_RDONLY)
    for target, source in enumerate([empty, *files]):
        os.dup2(source, target)
    os.environ.update(request["env"])
    tempfile.tempdir = None  # found before TMPDIR was known
    if request["memory_bytes"]:
        resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"],) * 2)
    sys.argv = ["recsys", *request["argv"]]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001  a child must not return into the loop of `serve`
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
