"""Markdown tables, means over seeds and the intervals of their differences."""

import statistics
from collections.abc import Iterable, Sequence

from scipy import stats


def table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [[1, "x"]]))
    | a | b |
    |---|---|
    | 1 | x |
    """
    lines = [_line(heads), "|---" * len(heads) + "|", *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def mean_std(values: Sequence[float], digits: int = 4, sign: str = "", none: str = "–") -> str:
    """Mean ± standard deviation; `none` if there are no values.

    >>> mean_std([0.5, 0.7], digits=2)
    '0.60 ± 0.14'
    """
    if not values:
        return none
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.{digits}f} ± {spread:.{digits}f}"


def paired(differences: Sequence[float]) -> str:
    """Mean of differences by seed ± half of Student's 95 % interval; no interval for one."""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.4f}"
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.4f} ± {stats.t.ppf(0.975, len(differences) - 1) * error:.4f}"


def unpaired(values: Sequence[float], others: Sequence[float]) -> str:
    """Mean of `values` less that of `others` ± half of Welch's 95 % interval."""
    difference = statistics.mean(values) - statistics.mean(others)
    if min(len(values), len(others)) < 2:
        return f"{difference:+.4f}"
    interval = stats.ttest_ind(values, others, equal_var=False).confidence_interval(0.95)
    return f"{difference:+.4f} ± {(interval.high - interval.low) / 2:.4f}"


def by_seed(
    runs: Iterable[dict], keys: Sequence[str], figures: Sequence[str]
) -> dict[str, dict[str, list]]:
    """Figures of runs, seed by seed, for each combination of `keys`.

    >>> runs = [{"model": "a", "seed": s, "auc": 0.7 + s} for s in (1, 2)]
    >>> by_seed(runs, ["model"], ["auc"])
    {'a': {'seed': [1, 2], 'auc': [1.7, 2.7]}}
    """
    grouped: dict[str, dict[str, list]] = {}
    for run in runs:
        group = grouped.setdefault(", ".join(str(run[key]) for key in keys), {})
        for name in ("seed", *figures):
            if name in run:
                group.setdefault(name, []).append(run[name])
    return grouped
