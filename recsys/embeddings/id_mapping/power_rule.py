"""The power rule of mixed dimensions: d = λ · n^-α for a feature of n ids (Ginart et al. 2019, §4).

α is the temperature: 0 gives all features one dim, 1 all features equally many floats. Dims are
rounded, to a power of two if so wished, and lie between 1 and the base dim D.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from recsys.errors import RecsysError

Rounding = Literal["none", "power_of_two"]


def anchored_dims(
    sizes: Sequence[int], temperature: float, base_dim: int, rounding: Rounding
) -> list[int]:
    """Dims of features of these sizes, of which the smallest has the base dim."""
    return _dims(base_dim * min(sizes) ** temperature, sizes, temperature, base_dim, rounding)


def dims_within(
    budget: int, features: Mapping[str, int], temperature: float, base_dim: int, rounding: Rounding
) -> list[int]:
    """Dims of the largest λ for which rows and projections are at most `budget` floats.

    Rounding and bounds make the sum of floats a step function of λ, in which each step is tried:
    a λ solved for without them would overshoot, most of all where many dims are raised to 1.
    """
    least, sizes = 0, list(features.values())
    for scale in _scales(sizes, temperature, base_dim):
        dims = _dims(scale, sizes, temperature, base_dim, rounding)
        least = count_floats(sizes, dims, base_dim)
        if least <= budget:
            return dims
    raise RecsysError(
        "mixed dimensions do not fit the budget",
        where=", ".join(features),
        expected=f"at least {least} floats: one for each of their ids, and the projections",
        got=f"{budget} floats",
        fix="raise the budget, or give the largest features a method that shares rows",
    )


def count_floats(sizes: Sequence[int], dims: Sequence[int], base_dim: int) -> int:
    """Floats of all rows, and of a d × D projection wherever d < D."""
    rows = sum(n * d for n, d in zip(sizes, dims, strict=True))
    return rows + sum(d * base_dim for d in dims if d < base_dim)


def _dims(
    scale: float, sizes: Sequence[int], temperature: float, base_dim: int, rounding: Rounding
) -> list[int]:
    dims = np.floor(scale * np.array(sizes, dtype=float) ** -temperature + 0.5).clip(1, base_dim)
    if rounding == "power_of_two":
        dims = np.exp2(np.round(np.log2(dims))).clip(1, base_dim)
    return [int(dim) for dim in dims]


def _scales(sizes: Sequence[int], temperature: float, base_dim: int) -> list[float]:
    """One λ for each step that the dims take, from all D down to all 1."""
    unit = np.array(sizes, dtype=float) ** temperature  # the λ that gives d = 1
    steps = np.unique(np.outer(unit, np.arange(1, base_dim + 1) - 0.5))  # where a dim changes
    between = np.sqrt(steps[1:] * steps[:-1])
    return [2.0 * float(steps[-1]), *between[::-1].tolist(), 0.5 * float(steps[0])]
