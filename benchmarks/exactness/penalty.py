"""Does the L2 charged by sparse updates over an epoch equal its definition?

For each store, kind of feature and method: the penalty charged over one epoch with the weights
held fixed ÷ λ/2 · Σ W² · N/B over the rows that a train row looks up (N rows, batches of B).

    python -m benchmarks.exactness.penalty      # about 2 minutes
"""

import tempfile
from pathlib import Path

from benchmarks import harness
from benchmarks.tables import table
from tests.training.penalty import KINDS, L2, METHODS, charged_by_due, write_penalty_datasets


def main() -> None:
    arguments = harness.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_penalty_datasets(Path(folder))
        ratios = {(s, k): charged_by_due(s, k, Path(folder)) for s in L2 for k in KINDS}
    text = table(
        ["store", "kind of feature", *METHODS],
        [[*names, *(f"{r:.6f}" for r in found.values())] for names, found in ratios.items()],
    )
    figures = {f"{store}, {kind}": found for (store, kind), found in ratios.items()}
    harness.report(arguments, {"charged_by_due": figures}, text)


if __name__ == "__main__":
    main()
