"""The `join:` section of a recipe: tables whose columns are added to the rows by key."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from data_pipelines.rules.file_format import FileFormat
from recsys.config.base import BaseConfig


class JoinFile(FileFormat):
    """How the table's files are written."""

    section: ClassVar[str] = "join.file"


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("different column names")
    return names


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


ColumnNames = Annotated[
    tuple[str, ...], BeforeValidator(_as_tuple), AfterValidator(_different), Field(max_length=16)
]
FileNames = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Join(BaseConfig):
    """One table beside the rows: raw files whose names match `files`.

    Attributes:
        files: names or wildcards; such files are not read as rows.
        key: the columns of the rows (or of tables joined before) that hold the table's key.
        table_key: what these columns are called in the table, if otherwise.
        columns: the table's columns that are added; none: all but the key.
        prefix: put before the names of the added columns.
        file: how the table is written; null: as the rows are (`file:`), with its own header.
    """

    files: FileNames
    key: Annotated[ColumnNames, Field(min_length=1)]
    table_key: ColumnNames = ()
    columns: ColumnNames = ()
    prefix: str = ""
    file: JoinFile | None = None

    @property
    def own_key(self) -> tuple[str, ...]:
        """The key's columns in the table."""
        return self.table_key or self.key
