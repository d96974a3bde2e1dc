"""What every benchmark ends with: a dated record of the results, the machine and the versions.

Run benchmarks from the repository root, `python -m benchmarks.speed.auc`; then
`from benchmarks.record import write_record` works in each of them.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path

from recsys.io.atomic import write_text

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "recsys", "numpy", "polars", "pyarrow", "scipy", "scikit-learn",
    "torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "lightning", "onnxruntime",
)  # fmt: skip


def write_record(name: str, results: dict, table_markdown: str) -> Path:
    """Writes results/<name>_<hardware>_<date>.json and .md; returns the path of the .md.

    `results` must be plain JSON values with units in their keys (`seconds`, `rows_per_second`,
    `peak_rss_bytes`); `table_markdown` is what a reader should see, good or bad.
    """
    setting = describe_setting()
    json_text = json.dumps({"benchmark": name, **setting, "results": results}, indent=1) + "\n"
    stem = f"{name}_{slug(setting)}_{setting['date']}"
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS / f"{stem}.json", json_text)
    write_text(RESULTS / f"{stem}.md", to_markdown(name, setting, table_markdown))
    return RESULTS / f"{stem}.md"


def describe_setting() -> dict:
    """Date, commit, hardware and versions of this process."""
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "commit": commit(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": gpu_model(),
        "system": platform.platform(terse=True),
        "versions": {"python": platform.python_version(), **versions()},
    }


def commit() -> str | None:
    """The checked-out commit, with `+changes` when tracked files differ from it."""
    head = output("git", "rev-parse", "--short=12", "HEAD")
    changes = output("git", "status", "--porcelain", "--untracked-files=no")
    return f"{head}+changes" if head and changes else head


def cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def gpu_model() -> str | None:
    names = output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines()[0] if names else None


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def output(*command: str) -> str | None:
    """What the command prints, or None when it is missing or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def slug(setting: dict) -> str:
    """The hardware in a file name: `amd_epyc_2_cores`, `nvidia_h100_80gb_hbm3`."""
    words = setting["gpu"] or f"{setting['cpu']} {setting['cores']} cores"
    words = re.sub(r"\((r|tm)\)|@.*?ghz|\bcpu\b", " ", words.lower())
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


def to_markdown(name: str, setting: dict, table_markdown: str) -> str:
    memory = f"{setting['memory_bytes'] / 2**30:.0f} GiB"
    machine = f"{setting['cpu']}, {setting['cores']} cores, {memory}"
    load = f"load average at the end {setting['load_average']}"
    if setting["gpu"]:
        machine += f", {setting['gpu']}"
    used = ", ".join(f"{package} {version}" for package, version in setting["versions"].items())
    return (
        f"# {name}\n\n{table_markdown.strip()}\n\n"
        f"- date: {setting['date']}, commit: {setting['commit'] or 'unknown'}\n"
        f"- machine: {machine}, {setting['system']}; {load}\n- versions: {used}\n"
    )
