"""Starts one process per device with torchrun's environment, and monitors them.

When one fails, the others are stopped and the first failure's message is shown. `torchrun -m
recsys train …` does the same on several machines.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from recsys.errors import RecsysError
from recsys.io.process import count_cores

# The exit code of a rank whose only error is that another one has exited.
LOST_CONTACT = 75
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
POLL_SECONDS = 0.05
SECONDS_TO_END = 5.0  # for the others, after the first failure


LOST_CONTACT_SIGNS = (
    "closed by peer",
    "reset by peer",
    "Broken pipe",
    "Timed out",
    "remote process",
)


def is_lost_contact(error: RuntimeError) -> bool:
    """True if the error only says that another rank has exited."""
    return "RANK" in os.environ and any(sign in str(error) for sign in LOST_CONTACT_SIGNS)


def needs_launch(devices: int, nodes: int) -> bool:
    """True if this process must start the ranks; False if it is one of them, or the only one."""
    if "RANK" in os.environ:
        _check_world_size(devices * nodes)
        return False
    if nodes > 1:
        raise RecsysError(
            f"train.nodes is {nodes}: each machine has to start its own processes",
            expected=f"torchrun --nnodes={nodes} --nproc-per-node={devices} "
            "--rdzv-backend=c10d --rdzv-endpoint=FIRST_HOST:29400 -m recsys train …",
        )
    return devices > 1


def _check_world_size(wanted: int) -> None:
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted not in (1, started):
        raise RecsysError(
            "the launcher has started another number of processes than the config asks for",
            where="train.devices × train.nodes",
            expected=wanted,
            got=started,
        )


def launch(arguments: Sequence[str], devices: int, *, module: str = "recsys") -> int:
    """Runs `python -m MODULE ARGUMENTS` on `devices` ranks of this machine.

    Returns the exit code.
    """
    port = _free_port()
    quiet = [tempfile.TemporaryFile("w+") for _ in range(devices - 1)]  # noqa: SIM115  closed below
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=_environment(rank, devices, port),
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=None if rank == 0 else quiet[rank - 1],
            start_new_session=True,  # only the launcher receives Ctrl-C; it is forwarded once
            preexec_fn=_die_with_parent,  # safe: this process has no other threads
        )
        for rank in range(devices)
    ]
    handlers = {
        number: signal.signal(number, lambda number, _: _hand_on(number, ranks))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        _wait_for_first_failure(ranks)
        return _exit_code(_stop(ranks), quiet)
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for file in quiet:
            file.close()


def _environment(rank: int, devices: int, port: int) -> dict[str, str]:
    threads = max(1, count_cores() // devices)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": f"recsys-{os.getpid()}",
    }


def _die_with_parent() -> None:
    """Runs in a rank: asks the kernel to kill it when the launcher dies, even by kill -9."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _hand_on(number: int, ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(number)


def _wait_for_first_failure(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    while any(rank.poll() is None for rank in ranks):
        if any(rank.poll() not in (None, 0) for rank in ranks):
            return
        time.sleep(POLL_SECONDS)


def _stop(ranks: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Waits briefly for all to exit, then kills them; returns exit codes, None for killed ones."""
    deadline = time.monotonic() + SECONDS_TO_END
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    codes = [rank.poll() for rank in ranks]
    for rank in ranks:
        if rank.poll() is None:
            rank.kill()
        rank.wait()
    return codes


def _exit_code(codes: Sequence[int | None], quiet: Sequence[IO[str]]) -> int:
    if not any(codes):
        return 0
    # first a rank with an error of its own, then one that was killed, then one that lost contact
    order = {2: 0, 1: 1, LOST_CONTACT: 3}
    culprit, code = min(
        ((rank, code) for rank, code in enumerate(codes) if code),
        key=lambda failure: order.get(failure[1], 2),
    )
    if culprit > 0:
        quiet[culprit - 1].seek(0)
        sys.stderr.write(quiet[culprit - 1].read())
    if code < 0:
        name = signal.Signals(-code).name
        sys.stderr.write(f"error: rank {culprit} of {len(codes)} was killed by {name}\n")
        return 1
    return code
