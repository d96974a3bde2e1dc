"""How raw files are written: the sections `file`, `join` and `events.items` of a recipe."""

import codecs
import re
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from recsys.config.base import BaseConfig

ENCODINGS = (
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
    *("ascii", "latin-1", "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15"),
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "koi8-r"),
    *("gbk", "gb18030", "big5", "shift_jis", "cp932", "euc-jp", "euc-kr", "cp949"),
)
_CODECS = {codecs.lookup(name).name: name for name in ENCODINGS}

Format = Literal["text", "parquet", "arrow", "orc", "libsvm"]
ALIASES = {"feather": "arrow", "csv": "text", "tsv": "text", "libfm": "libsvm", "libffm": "libsvm"}


def _alias(names: dict[str, str]) -> Callable[[object], object]:
    """Replaces an alias of a text; other values are left to the next check."""
    return lambda value: names.get(value, value) if isinstance(value, str) else value


def _known_encoding(name: str) -> str:
    """The name as in ENCODINGS, for any of its aliases."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_. -]{1,20}", name):
        try:
            codec = codecs.lookup(name).name
        except LookupError:
            codec = ""
        if codec == "utf-8-sig":
            codec = "utf-8"
        if codec in _CODECS:
            return _CODECS[codec]
    raise ValueError(f"one of {', '.join(ENCODINGS)}")


def _one_ascii_character(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value in "\r\n\0":
        raise ValueError("one ASCII character, not a line end")
    return value


TABS = {"\\t": "\t", "tab": "\t"}  # as shells pass a tab
Separator = Annotated[str, BeforeValidator(_alias(TABS)), AfterValidator(_one_ascii_character)]


class FileFormat(BaseConfig):
    """How raw files are written. Compression is detected from the content and needs no key."""

    section: ClassVar[str] = "file"  # the section of the recipe, for error messages

    # `text` (CSV, TSV), `parquet`, `arrow` (IPC file or stream, Feather), `orc` or `libsvm` (lines
    # of `label index:value …` or `label field:index:value …`)
    format: Annotated[Format, BeforeValidator(_alias(ALIASES))] = "text"
    # of text files; a byte order mark in the file takes precedence
    encoding: Annotated[str, AfterValidator(_known_encoding)] = "utf-8"
    separator: Separator = ","  # between values: one ASCII character, or `tab`
    header: bool | None = None  # whether the first line has column names; required with `columns`
    # column names; with `header: true` they replace those of the first line, with `header: false`
    # the first line is a row; of `libsvm`: all columns of the file
    columns: tuple[str, ...] = ()
    # the quote character; null: quote characters have no meaning
    quote: Annotated[str, Field(), AfterValidator(_one_ascii_character)] | None = '"'
    missing: tuple[str, ...] = ()  # texts that mean "missing", in addition to empty text

    @property
    def has_header(self) -> bool:
        """Whether the first line is a header, not a row."""
        return self.header is not False

    def as_lines(self) -> "FileFormat":
        """The same encoding for files that are read line by line: JSON, item lists, libsvm."""
        return LINES.model_copy(update={"encoding": self.encoding})

    @model_validator(mode="after")
    def _check_characters(self) -> "FileFormat":
        if self.quote == self.separator:
            raise ValueError(f"separator and quote must differ; both are {self.quote!r}")
        return self


LINES = FileFormat(header=False, quote=None)


class ItemTable(FileFormat):
    """A file of item features beside an event log.

    Tables have the column `item` and the item features. Parquet, Arrow and ORC are detected; text
    is described by the keys of `file`. Amazon metadata (one object per line) and JSON objects
    {item: [attribute, ...]} give the columns `category` (the last one of the item's list) and
    `attributes` (all of them, joined by "|").
    """

    section: ClassVar[str] = "events.items"

    # names or wildcards of the raw files that are item tables
    files: tuple[str, ...] = ("*item*", "meta*")
    item: str = "item"  # the column with the item


class JoinFile(FileFormat):
    """How the files of a joined table are written."""

    section: ClassVar[str] = "join.file"


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("column names without duplicates")
    return names


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


ColumnNames = Annotated[
    tuple[str, ...], BeforeValidator(_as_tuple), AfterValidator(_unique), Field(max_length=16)
]
FileNames = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Join(BaseConfig):
    """A table whose columns are added to the rows by key."""

    # names or wildcards of the raw files that are this table; they are not read as rows
    files: FileNames
    # the key columns of the rows (or of tables that are joined before)
    key: Annotated[ColumnNames, Field(min_length=1)]
    table_key: ColumnNames = ()  # the key columns of the table, if their names differ
    columns: ColumnNames = ()  # the columns to add; empty: all but the key
    prefix: str = ""  # a prefix for the names of the added columns
    # how the table is written; null: like the rows (`file`), with its own header
    file: JoinFile | None = None

    @property
    def own_key(self) -> tuple[str, ...]:
        """The key columns of the table."""
        return self.table_key or self.key
