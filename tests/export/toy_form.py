"""A table form in a file of its own, as docs/export.md shows it."""

from recsys.serving.table_forms.base import RowPerId


class Float16(RowPerId):
    """Row i is the vector of id i, in half precision."""

    name = "float16"
    description = "one float16 table id → vector for each feature"
    dtype = "float16"
    tolerance = 1e-2
    vector_tolerance = 1e-3
