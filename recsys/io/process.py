"""What this process may use and has used, where Linux and macOS tell it differently."""

import os
import resource
import sys


def count_cores() -> int:
    """Cores that this process may use; macOS has no such limit, so all are counted there."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_bytes() -> int:
    """The most memory that this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
