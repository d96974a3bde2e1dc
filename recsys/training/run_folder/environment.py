"""environment.json: versions, hardware and commit of a run."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from recsys.io.process import count_cores


def describe_environment() -> dict[str, object]:
    """Versions, hardware and commit: what a number needs beside it."""
    return {
        **{name: installed_version(name) for name in PACKAGES if installed_version(name)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": count_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _commit(),
    }


def installed_version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, marked if there are changes."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


PACKAGES = ("recsys", "torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "lightning", "polars")
