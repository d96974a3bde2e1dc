"""Threads beside the one that trains."""

import torch
from threadpoolctl import threadpool_limits


def compute_alone() -> None:
    """From here on this thread computes by itself; other threads keep theirs.

    A thread of Python that runs a torch kernel gets an OpenMP team of its own. As soon as there are
    more members than cores, libgomp lets all teams sleep between two kernels, also the team that
    trains: a step of small kernels took 1.2 to 1.5 × as long.
    """
    torch.get_num_threads()  # what torch does on a thread's first kernel would undo the limit
    threadpool_limits(limits=1, user_api="openmp")
