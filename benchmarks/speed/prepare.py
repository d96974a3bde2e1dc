"""How many rows a second does `prepare` reach, and does its memory grow with the rows?

python -m benchmarks.speed.prepare --peer-python PYTHON --peer-checkout DIR   2 M and 8 M rows
python -m benchmarks.speed.prepare --rows 100000 --no-record                   a quick look

Generated Criteo rows, 39 vocabulary columns, 2 M distinct ids, min count 2. Each tool runs in a
fresh process and times itself without its imports; FuxiCTR reads the same rows as CSV with a header
(only up to --peer-max-rows). Peak RSS is of the process; FuxiCTR's workers are added.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import write_record
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
PEER_DRIVER = Path(__file__).parents[1] / "peers" / "fuxictr_prepare.py"


def main() -> None:
    arguments = parse_arguments()
    if arguments.ours_once:
        print(json.dumps(run_ours_here(*arguments.ours_once)))
        return
    results = []
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        for rows in arguments.rows:
            results += measure(Path(folder), rows, arguments)
    table = to_table(results)
    print(table)
    if not arguments.no_record:
        write_record("prepare", {"runs": results}, table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000, 8_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peer-checkout", type=Path)
    parser.add_argument("--peer-max-rows", type=int, default=2_000_000)
    parser.add_argument("--work", type=Path, help="where the temporary files go")
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--ours-once", nargs=2, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


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
        runs["recsys"].append(run_fresh(ours, {}))
        if has_peer and number == 0:
            peer = [arguments.peer_python, PEER_DRIVER, "--train", folder / "rows.csv"]
            peer += ["--out", folder / "peer"]
            runs["FuxiCTR"].append(run_fresh(peer, {"PYTHONPATH": str(arguments.peer_checkout)}))
        subprocess.run(["rm", "-rf", out, folder / "peer"], check=True)
    return [summarise(tool, rows, done) for tool, done in runs.items() if done]


def write_csv(tsv: Path, csv: Path) -> None:
    """The same rows as FuxiCTR wants them."""
    with csv.open("wb") as target, tsv.open("rb") as source:
        target.write(",".join(COLUMNS).encode() + b"\n")
        while block := source.read(1 << 24):
            target.write(block.replace(b"\t", b","))


def run_fresh(command: list, environment: dict[str, str]) -> dict:
    """The last line of a fresh process's output, as JSON."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


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


def summarise(tool: str, rows: int, runs: list[dict]) -> dict:
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


def to_table(results: list[dict]) -> str:
    peers = {r["rows"]: r["rows_per_second"] for r in results if r["tool"] == "FuxiCTR"}
    lines = [
        "| rows | tool | seconds | rows/s | × FuxiCTR | peak RSS, MB |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        ratio = f"{r['rows_per_second'] / peers[r['rows']]:.1f}" if r["rows"] in peers else ""
        lines.append(
            f"| {r['rows']:,} | {r['tool']} | {r['seconds']:.1f} | {r['rows_per_second']:,.0f} "
            f"| {ratio} | {r['peak_rss_bytes'] / 1e6:,.0f} |"
        )
    ours = {r["rows"]: r["peak_rss_bytes"] for r in results if r["tool"] == "recsys"}
    if len(ours) > 1:
        growth = ours[max(ours)] / ours[min(ours)] - 1
        lines.append(f"\nPeak RSS from {min(ours):,} to {max(ours):,} rows: {growth:+.1%}.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
