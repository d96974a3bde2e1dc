"""What decoded columns must be; an error names the column, the value, the file and the row.

Each check is one pass over an array that is in the cache anyway; the row is looked for only after
a check has failed.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as types

from recsys.errors import RecsysError, did_you_mean
from recsys.schema import Feature, Schema

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Place(NamedTuple):
    """The file that a column comes from, and the row of the file, from 0, that it starts at."""

    path: Path
    first_row: int

    def row(self, position: int, offsets: Int64s | None = None) -> str:
        """The place of value `position`; `offsets` are those of a column of lists."""
        if offsets is not None:
            position = int(np.searchsorted(offsets, position, side="right")) - 1
        return f"{self.path}, row {self.first_row + position} (counted from 0)"


def check_types(file_schema: pa.Schema, schema: Schema, path: Path) -> None:
    """Checks that every column exists, in the type that the data contract gives its kind."""
    wanted: dict[str, str] = {feature.name: feature.kind for feature in schema.features}
    wanted[schema.label] = "label"
    if schema.group is not None:
        wanted.setdefault(schema.group, "group")
    for name, kind in wanted.items():
        if name not in file_schema.names:
            raise RecsysError(
                f"the file has no column {name!r}",
                where=path,
                expected=", ".join(wanted),
                got=", ".join(file_schema.names),
                fix=did_you_mean(name, file_schema.names),
            )
        _check_type(name, kind, file_schema.field(name).type, path)


def _check_type(name: str, kind: str, found: pa.DataType, path: Path) -> None:
    expected, fits = {
        "categorical": ("int32", types.is_int32(found)),
        "sequence": ("list<int32>", _is_list(found) and types.is_int32(found.value_type)),
        "numerical": ("float32", types.is_float32(found)),
        "label": ("integer, float or bool", _is_number(found) or types.is_boolean(found)),
        "group": ("integer", types.is_integer(found)),
    }[kind]
    if not fits:
        raise RecsysError(
            f"the column {name!r} has another type than a {kind} column",
            where=path,
            expected=expected,
            got=found,
            fix="prepare the dataset again",
        )


def _is_list(found: pa.DataType) -> bool:
    return types.is_list(found) or types.is_large_list(found)


def _is_number(found: pa.DataType) -> bool:
    return types.is_integer(found) or types.is_floating(found)


def check_filled(column: pa.Array, name: str, place: Place, offsets: Int64s | None = None) -> None:
    """No value is missing: `recsys prepare` writes id 0 or the transform's value for it."""
    if column.null_count:
        position = column.is_null().index(pa.scalar(True)).as_py()
        raise RecsysError(
            f"the column {name!r} has a missing value",
            where=place.row(position, offsets),
            expected="a value in every row (0 is the id for missing)",
            fix="prepare the dataset again",
        )


def check_ids(ids: Int32s, feature: Feature, place: Place, offsets: Int64s | None = None) -> None:
    """0 <= id < cardinality."""
    unsigned = ids.view(np.uint32)  # a negative id is a very large one
    if len(ids) and unsigned.max() >= feature.num_ids:
        position = int(np.argmax(unsigned >= feature.num_ids))
        raise RecsysError(
            f"an id of the feature {feature.name!r} is outside its vocabulary",
            where=place.row(position, offsets),
            expected=f"0 to {feature.num_ids - 1} (the cardinality is {feature.num_ids})",
            got=ids[position],
            fix="prepare the dataset again",
        )


def check_finite(values: Floats, feature: Feature, place: Place) -> None:
    """Neither NaN nor infinite."""
    finite = np.isfinite(values)
    if not finite.all():
        position = int(np.argmin(finite))
        raise RecsysError(
            f"the numerical feature {feature.name!r} has a value that is not finite",
            where=place.row(position),
            expected="a finite number",
            got=values[position],
            fix="repair the raw value, or give the feature another transform, and prepare again",
        )


def check_labels(labels: npt.NDArray[np.generic], name: str, place: Place) -> None:
    """0 or 1."""
    fits = (labels == 0) | (labels == 1)
    if not fits.all():
        position = int(np.argmin(fits))
        raise RecsysError(
            f"the label {name!r} is neither 0 nor 1",
            where=place.row(position),
            expected="0 or 1",
            got=labels[position],
            fix="prepare the dataset again with a rule that makes the label 0 or 1",
        )
