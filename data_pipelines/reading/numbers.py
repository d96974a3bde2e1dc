"""Numbers that float32, the type of every numerical feature, cannot hold."""

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from recsys.errors import RecsysError

OutOfRange = Literal["refuse", "clip"]
MAX_NUMBER = float(np.finfo(np.float32).max)


def bounded_numbers(
    frame: pl.DataFrame, rule: OutOfRange, where: Path | str, first_row: int | None = None
) -> pl.DataFrame:
    """The frame with all numbers within float32; infinities lie outside it.

    `first_row` is the number of the frame's first row, if rows have numbers.
    """
    for name, dtype in frame.schema.items():
        if not dtype.is_float():
            continue
        column = frame[name].alias("x")  # some methods take the name for a pattern
        low, high = column.min(), column.max()
        if low is None or (low >= -MAX_NUMBER and high <= MAX_NUMBER):  # type: ignore[operator]  # of floats
            continue
        if rule == "refuse":
            row = int((column.abs() > MAX_NUMBER).arg_true()[0])
            raise RecsysError(
                f"the numerical column {name!r} holds a number beyond float32",
                where=where if first_row is None else f"{where}, data row {first_row + row}",
                expected=f"at most {MAX_NUMBER:.4g} in size",
                got=column[row],
                fix="correct the value, or set numerical.out_of_range=clip",
            )
        frame = frame.with_columns(column.clip(-MAX_NUMBER, MAX_NUMBER).alias(name))
    return frame
