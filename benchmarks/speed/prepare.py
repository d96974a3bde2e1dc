"""How many rows a second does `prepare` reach, and does its memory grow with the rows?

python -m benchmarks.speed.prepare --peer-python PYTHON --checkout DIR   2 M and 8 M rows
python -m benchmarks.speed.prepare --rows 100000 --no-record                   a quick look

Generated Criteo rows, 39 vocabulary columns, 2 M distinct ids, min count 2. Each tool runs in a
fresh process and times itself without its imports; FuxiCTR reads the same rows as CSV with a header
(only up to --peer-max-rows). Peak RSS is of the process; FuxiCTR's workers are added.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from benchmarks.tables import table
from data_pipelines.synthetic import generate_criteo

# The real file's distinct values, less what lies above a cap that leaves 2 M in all.
CAP = 286_147
CARDINALITIES = tuple(
    min(size, CAP)
    for size in (
        *(1460, 583, CAP, CAP, 305, 24, 12517, 633, 3, 93145, 5683, CAP, 3194, 27, 14992, CAP),
        *(10, 5652, 2173, 4, CAP, 18, 15, CAP, 105, 142572),
    )
)
COLUMNS = ["label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27))]


def measure(folder: Path, rows: int, arguments: argparse.Namespace) -> list[dict]:
    """Both tools on the same rows, in turns; one result each."""
    tsv = folder / "rows.tsv"
    generate_criteo(tsv, rows, seed=1, cardinalities=CARDINALITIES)
    runs: dict[str, list[dict]] = {"recsys": [], "FuxiCTR": []}
    has_peer = bool(arguments.peer_python) and rows <= arguments.peer_max_rows
    if has_peer:
        write_csv(tsv, folder / "rows.csv")
    for number in range(arguments.rounds):
        out = folder / f"ours{number}"
        ours = [sys.executable, "-m", "benchmarks.speed.prepare", "--ours-once", tsv, out]
        runs["recsys"].append(harness.run_json(ours))
        if has_peer and number == 0:
            peer = [arguments.peer_python, harness.PEERS / "fuxictr_prepare.py"]
            peer += ["--train", folder / "rows.csv", "--out", folder / "peer"]
            path = {"PYTHONPATH": str(arguments.checkout)}
            runs["FuxiCTR"].append(harness.run_json(peer, environment=path))
        for done in (out, folder / "peer"):
            shutil.rmtree(done, ignore_errors=True)
    return [summarize(tool, rows, done) for tool, done in runs.items() if done]


def write_csv(tsv: Path, csv: Path) -> None:
    """The same rows as FuxiCTR wants them."""
    with csv.open("wb") as target, tsv.open("rb") as source:
        target.write(",".join(COLUMNS).encode() + b"\n")
        while block := source.read(1 << 24):
            target.write(block.replace(b"\t", b","))


def run_ours_here(tsv: Path, out: Path) -> dict:
    from data_pipelines import prepare

    start = time.perf_counter()
    prepare("criteo_kaggle", [tsv], out, ["min_count=2"])
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def summarize(tool: str, rows: int, runs: list[dict]) -> dict:
    """The median run; every run's seconds stay in the record."""
    ordered = sorted(runs, key=lambda run: run["seconds"])
    median = ordered[len(ordered) // 2]
    return {
        "tool": tool,
        "rows": rows,
        **median,
        "rows_per_second": rows / median["seconds"],
        "all_seconds": [run["seconds"] for run in runs],
    }


def to_markdown(results: list[dict]) -> str:
    peers = {r["rows"]: r["rows_per_second"] for r in results if r["tool"] == "FuxiCTR"}
    text = table(
        ["rows", "tool", "seconds", "rows/s", "× FuxiCTR", "peak RSS, MB"],
        [
            (
                f"{r['rows']:,}",
                r["tool"],
                f"{r['seconds']:.1f}",
                f"{r['rows_per_second']:,.0f}",
                f"{r['rows_per_second'] / peers[r['rows']]:.1f}" if r["rows"] in peers else "",
                f"{r['peak_rss_bytes'] / 1e6:,.0f}",
            )
            for r in results
        ],
    )
    ours = {r["rows"]: r["peak_rss_bytes"] for r in results if r["tool"] == "recsys"}
    if len(ours) > 1:
        growth = ours[max(ours)] / ours[min(ours)] - 1
        text += f"\n\nPeak RSS from {min(ours):,} to {max(ours):,} rows: {growth:+.1%}."
    return text


def main() -> None:
    parser = harness.parser(__doc__, rounds=3, work="optional", peer="optional")
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000, 8_000_000])
    parser.add_argument("--peer-max-rows", type=int, default=2_000_000)
    parser.add_argument("--ours-once", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours_once:
        print(json.dumps(run_ours_here(*arguments.ours_once)))
        return
    results = []
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        for rows in arguments.rows:
            results += measure(Path(folder), rows, arguments)
    harness.report(arguments, {"runs": results}, to_markdown(results))


if __name__ == "__main__":
    main()
