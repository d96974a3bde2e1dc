"""Is the L2 that sparse updates charge over an epoch the one that is due?

For each store, kind of feature and method: the penalty charged over one epoch with the weights
held fixed ÷ λ/2 · Σ W² · N/B over the rows that a train row looks up (N rows, batches of B).

    python -m benchmarks.exactness.penalty      # about 2 minutes
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.record import write_record
from tests.training.penalty import KINDS, L2, METHODS, charged_by_due, write_penalty_datasets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_penalty_datasets(Path(folder))
        rows = [(s, k, charged_by_due(s, k, Path(folder))) for s in L2 for k in KINDS]
    lines = [
        "| store | kind of feature | " + " | ".join(METHODS) + " |",
        "|---" * (2 + len(METHODS)) + "|",
        *(
            f"| {store} | {kind} | " + " | ".join(f"{r:.6f}" for r in ratios.values()) + " |"
            for store, kind, ratios in rows
        ),
    ]
    print("\n".join(lines))
    if not options.no_record:
        cells = [{"store": s, "kind": k, "charged_by_due": ratios} for s, k, ratios in rows]
        print(write_record("penalty", {"cells": cells}, "\n".join(lines)))


if __name__ == "__main__":
    main()
