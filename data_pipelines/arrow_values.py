"""What values of Arrow types become: the canonical types, float64 and text."""

from pathlib import Path

import polars as pl

from recsys.errors import RecsysError


def canonical_frame(
    frame: pl.DataFrame, dtypes: dict[str, pl.DataType], separator: str, path: Path
) -> pl.DataFrame:
    """The canonical types: float64 or text; lists joined, other types written out, "" missing."""
    columns = []
    for name, dtype in dtypes.items():
        column = pl.col(name)
        if isinstance(frame[name].dtype, pl.List):
            column = column.cast(pl.List(pl.String)).list.join(separator)
        elif dtype == pl.String and frame[name].dtype == pl.Boolean:
            column = column.cast(pl.Int8).cast(pl.String)
        else:
            column = column.cast(dtype)
        is_text = dtype == pl.String
        columns.append(column.replace("", None) if is_text else column.fill_nan(None))
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise RecsysError(
            "a column has the wrong type", where=path, got=str(error).splitlines()[0]
        ) from None
