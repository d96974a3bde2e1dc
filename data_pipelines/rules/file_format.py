"""How raw files are written: the `file:` section of a recipe, and what an item table shares."""

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
FORMAT_ALIASES = {"feather": "arrow", "csv": "text", "tsv": "text", "libfm": "libsvm"} | {
    "libffm": "libsvm"
}


def _alias(names: dict[str, str]) -> Callable[[object], object]:
    """Another spelling of a text; other values are left to the next check."""
    return lambda value: names.get(value, value) if isinstance(value, str) else value


def _known_encoding(name: str) -> str:
    """The name as ENCODINGS has it; other spellings of it are allowed."""
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


# "\\t" and "tab" are what a shell leaves of a tab.
Separator = Annotated[
    str,
    BeforeValidator(_alias({"\\t": "\t", "tab": "\t"})),
    AfterValidator(_one_ascii_character),
]


class FileFormat(BaseConfig):
    """How raw files are written. Compression is recognized by its bytes and needs no key.

    Attributes:
        format: `text` (CSV, TSV), `parquet`, `arrow` (IPC file or stream, Feather), `orc` or
            `libsvm` (lines of `label index:value …` or `label field:index:value …`).
        encoding: of text; a byte order mark in the file takes precedence.
        header: whether the first line holds the column names. Required if `columns` is given.
        columns: the column names. With `header: true` they replace the names in the first line,
            with `header: false` the first line is a row. Of `libsvm`: all columns of the file.
        quote: the quote character; null: quote characters have no meaning.
        missing: texts that mean "missing", in addition to empty text.
    """

    section: ClassVar[str] = "file"  # of the recipe, for messages

    format: Annotated[
        Format,
        BeforeValidator(_alias(FORMAT_ALIASES)),
    ] = "text"
    encoding: Annotated[str, AfterValidator(_known_encoding)] = "utf-8"
    separator: Separator = ","
    header: bool | None = None
    columns: tuple[str, ...] = ()
    quote: Annotated[str, Field(), AfterValidator(_one_ascii_character)] | None = '"'
    missing: tuple[str, ...] = ()

    @property
    def has_header(self) -> bool:
        """Whether the first line is no row."""
        return self.header is not False

    @model_validator(mode="after")
    def _check_characters(self) -> "FileFormat":
        if self.quote == self.separator:
            raise ValueError(f"separator and quote must differ, both are {self.quote!r}")
        return self


# Lines without columns: JSON lines, lists of items, libsvm.
LINES = FileFormat(header=False, quote=None)
