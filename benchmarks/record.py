"""Writes a dated record of a benchmark: results/<script>_<hardware>_<date>.md and the index.

results/index.json has one line for each record: the script, the machine, versions, and the figures
behind the record's text (units in the keys: `seconds`, `rows_per_second`, `peak_rss_bytes`).
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from recsys.io.atomic import write_text

RESULTS = Path(__file__).parent / "results"
INDEX = "index.json"
DIGITS = 6  # significant digits of figures in the index
PACKAGES = (
    "recsys", "numpy", "polars", "pyarrow", "scipy", "scikit-learn",
    "torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "lightning", "onnxruntime",
)  # fmt: skip


def write_record(
    script: str,
    figures: Mapping[str, object],
    text: str,
    name: str | None = None,
    results: Path = RESULTS,
) -> Path:
    """Writes the record and its line in the index; returns the path of the record.

    Args:
        script: the module below `benchmarks`, such as `speed.training`.
        figures: plain JSON values: what the text shows, and the value of each seed or round.
        text: Markdown, whether the result is good or bad.
        name: of the record; by default made from `script`.
        results: the folder that holds records and index.
    """
    setting = describe_setting()
    name = name or script.replace(".", "_")
    stem = f"{name}_{slug(setting)}_{setting['date']}"
    results.mkdir(parents=True, exist_ok=True)
    write_text(results / f"{stem}.md", to_markdown(name, setting, text))
    index = read_index(results)
    index[stem] = {"script": script, **setting, "figures": rounded(figures)}
    write_index(index, results)
    return results / f"{stem}.md"


def read_index(results: Path = RESULTS) -> dict[str, dict]:
    path = results / INDEX
    return json.loads(path.read_text()) if path.exists() else {}


def write_index(index: Mapping[str, object], results: Path = RESULTS) -> None:
    """One line for each record, sorted by name."""
    lines = [
        f"{json.dumps(stem)}: {json.dumps(index[stem], ensure_ascii=False)}"
        for stem in sorted(index)
    ]
    write_text(results / INDEX, "{\n" + ",\n".join(lines) + "\n}\n")


def rounded(value: object) -> object:
    """The same value with floats rounded to `DIGITS` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


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


def to_markdown(name: str, setting: dict, text: str) -> str:
    memory = f"{setting['memory_bytes'] / 2**30:.0f} GiB"
    machine = f"{setting['cpu']}, {setting['cores']} cores, {memory}"
    load = f"load average at the end {setting['load_average']}"
    if setting["gpu"]:
        machine += f", {setting['gpu']}"
    used = ", ".join(f"{package} {version}" for package, version in setting["versions"].items())
    return (
        f"# {name}\n\n{text.strip()}\n\n"
        f"- date: {setting['date']}, commit: {setting['commit'] or 'unknown'}\n"
        f"- machine: {machine}, {setting['system']}; {load}\n- versions: {used}\n"
    )
