"""Runs a function on several gloo ranks, each a process forked from one that has torch loaded."""

import multiprocessing
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

TIMEOUT_SECONDS = 300


def run_on_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns on each rank; it must be importable by its name."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recsys.training.train", "recsys.compat.torchrec"])
    port = free_port()
    answers = context.SimpleQueue()
    processes = [
        context.Process(target=_run, args=(answers, rank, world_size, port, function, arguments))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    results = dict(answers.get() for _ in processes)
    for process in processes:
        process.join(TIMEOUT_SECONDS)
    failures = [answer for is_good, answer in results.values() if not is_good]
    if failures:
        raise AssertionError("\n".join(failures))
    return [pickle.loads(results[rank][1]) for rank in range(world_size)]


def _run(answers, rank, world_size, port, function, arguments) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "tests",
        "OMP_NUM_THREADS": "1",
    }
    import torch

    torch.set_num_threads(1)
    try:
        # plain bytes: tensors would travel as shared memory of a process that has gone
        answers.put((rank, (True, pickle.dumps(function(*arguments)))))
    except BaseException:  # noqa: BLE001  the parent shows it
        answers.put((rank, (False, f"rank {rank}:\n{traceback.format_exc()}")))
        sys.stdout.flush()
        os._exit(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
