"""Do damaged and hostile files end in a traceback, a hang, or a file outside their folder?

Thousands of mutations of configs, overrides, raw text, recipes, datasets, runs and exports
(tests/mutations), each given to the command that reads it, in a process of its own with limited
memory. Damage that a command accepts is listed with the reason why it is harmless; accepted damage
without a reason counts as a failure.

    python -m benchmarks.exactness.mutations --cases 2200      # about 20 minutes on 2 cores
"""

import collections
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks import harness
from benchmarks.tables import table
from tests.mutations.accepted import reason_for
from tests.mutations.cases import run_case
from tests.mutations.sandbox import Sandbox
from tests.mutations.targets import build_targets
from tests.mutations.test_mutations import NAMES


def run_target(name: str, cases: int, first_seed: int) -> list[dict]:
    """Each case as one row of plain values."""
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder, Sandbox(Path(folder) / "sandbox") as sandbox:
        target = build_targets(Path(folder) / "pristine", sandbox.work)[name]

        @seed(first_seed)
        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(target.mutations, st.booleans())
        def collect(mutation, remakes_checksums):
            verdict = run_case(sandbox, target, mutation, remakes_checksums=remakes_checksums)
            reason = reason_for(name, mutation) if verdict.code == 0 else None
            rows.append(
                {
                    "target": name,
                    "place": mutation.place,
                    "kind": mutation.kind,
                    "mutation": repr(mutation)[:400],
                    "remakes_checksums": remakes_checksums,
                    "code": verdict.code,
                    "fault": verdict.fault,
                    "reason": reason,
                    "seconds": round(verdict.seconds, 2),
                    "message": verdict.message[-1500:] if verdict.fault else "",
                }
            )

        collect()
    return rows


def to_markdown(rows: list[dict], seconds: float) -> str:
    counts = collections.Counter(
        (row["target"], row["reason"] or "NO REASON KNOWN") for row in rows if row["code"] == 0
    )
    heads = ["target", "cases", "refused", "accepted", "faults", "slowest, s"]
    accepted = [(target, reason, n) for (target, reason), n in sorted(counts.items())]
    names = dict.fromkeys(row["target"] for row in rows)
    return "\n".join(
        [
            table(heads, [outcomes([r for r in rows if r["target"] == name]) for name in names]),
            "",
            f"{len(rows):,} cases in {seconds / 60:.1f} min.",
            "",
            *faults_of(rows),
            "",
            table(["accepted in", "because", "cases"], accepted),
        ]
    )


def outcomes(rows: list[dict]) -> list[object]:
    """Of one target: cases, refused, accepted, faults, slowest."""
    refused = sum(row["code"] == 2 and not row["fault"] for row in rows)
    accepted = sum(row["code"] == 0 and not row["fault"] for row in rows)
    faults = sum(row["fault"] is not None for row in rows)
    slowest = max(row["seconds"] for row in rows)
    return [rows[0]["target"], len(rows), refused, accepted, faults, slowest]


def faults_of(rows: list[dict]) -> list[str]:
    bad = [row for row in rows if row["fault"]]
    return [f"- FAULT in {row['target']}: {row['fault']}: `{row['mutation']}`" for row in bad]


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--cases", type=int, default=2200, help="in all targets together")
    parser.add_argument("--targets", nargs="*", default=list(NAMES), choices=NAMES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    begun = time.perf_counter()
    each = -(-options.cases // len(options.targets))
    with ProcessPoolExecutor(options.workers) as pool:
        futures = [pool.submit(run_target, n, each, options.seed) for n in options.targets]
        rows = []
        for future in futures:
            rows += future.result()
            print(f"{len(rows):,} cases, {time.perf_counter() - begun:.0f} s", flush=True)
    for row in rows:
        if row["fault"]:
            print(f"\n{row['target']}: {row['fault']}: {row['mutation']}\n{row['message']}")
        elif row["code"] == 0 and row["reason"] is None:
            print(f"\naccepted without a reason: {row['target']}: {row['mutation']}")
    kept = [{k: v for k, v in row.items() if k != "message"} for row in rows if row["fault"]]
    text = to_markdown(rows, time.perf_counter() - begun)
    harness.report(options, {"cases": len(rows), "faults": kept}, text)


if __name__ == "__main__":
    main()
