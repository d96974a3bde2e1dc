"""The ends of rows in text: line ends outside quotes. All functions work on whole blocks."""

import numpy as np
from numpy.typing import NDArray

NEWLINE, RETURN = ord("\n"), ord("\r")

Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]


def outside_quotes(data: NDArray[np.uint8], quote: str) -> Flags:
    """The mask (bytes,) of bytes outside quotes; a closing quote is outside."""
    return ~np.logical_xor.accumulate(data == ord(quote))


def _row_ends(data: bytes, quote: str) -> Positions:
    """The positions of line ends outside quotes."""
    array = np.frombuffer(data, np.uint8)
    marks, newlines = np.flatnonzero(array == ord(quote)), np.flatnonzero(array == NEWLINE)
    return newlines[np.searchsorted(marks, newlines) % 2 == 0]


def _has_quotes(data: bytes, quote: str | None) -> bool:
    return quote is not None and quote.encode() in data


def count_rows(data: bytes, quote: str | None) -> int:
    """The number of rows of a block that ends with a line end."""
    if quote is None or not _has_quotes(data, quote):
        return data.count(b"\n")
    return len(_row_ends(data, quote))


def row_end(data: bytes, quote: str | None) -> int:
    """The position after the first row and its line end; 0 if the row has no end."""
    end = data.find(b"\n") + 1
    if quote is None or not end or not data.count(quote.encode(), 0, end) % 2:
        return end
    ends = _row_ends(data, quote)
    return int(ends[0]) + 1 if len(ends) else 0


def _last_row_end(data: bytes, quote: str | None) -> int:
    end = data.rfind(b"\n") + 1
    if quote is None or not data.count(quote.encode(), 0, end) % 2:
        return end
    ends = _row_ends(data[:end], quote)
    return int(ends[-1]) + 1 if len(ends) else 0


def cut_rows(
    data: bytes, quote: str | None, is_last: bool, keep_blank: bool = False
) -> tuple[bytes, bytes]:
    """Splits data into whole rows and the rest.

    Blank lines at the end are left in the rest, and are dropped at the end of the file. A rest at
    the end of the file is a row without a closing quote.
    """
    if is_last and data and not data.endswith(b"\n"):
        data += b"\n"
    end = _last_row_end(data, quote)
    if keep_blank:
        return data[:end], data[end:]
    content = _content_end(data, end)
    line_end = data.find(b"\n", content, end) + 1 if content else 0
    return data[:line_end], data[end:] if is_last else data[line_end:]


def _content_end(data: bytes, end: int) -> int:
    """The end of the last line that is not blank, before its line end."""
    size = 1 << 10
    while True:
        start = max(0, end - size)
        content = len(data[start:end].rstrip(b"\r\n"))
        if content or not start:
            return start + content
        size *= 8


def find_stray_quote(data: NDArray[np.uint8], quote: str, separator: str) -> int | None:
    """The position of the first quote that neither encloses a value nor is doubled inside one.

    Pairs of quotes inside an unquoted value are part of the value, unless a separator or a line end
    is between them. `data` must end with a line end and have an even number of quotes.
    """
    marks = np.flatnonzero(data == ord(quote))
    opening, closing = marks[0::2], marks[1::2]
    ends = (ord(separator), NEWLINE, RETURN)
    starts_value = (opening == 0) | np.isin(data[opening - 1], (ord(separator), NEWLINE))
    ends_value = np.isin(data[closing + 1], ends)
    follows = np.zeros(len(opening), np.bool_)  # the second half of a doubled quote
    follows[1:] = opening[1:] == closing[:-1] + 1
    # In a run of adjacent pairs, the first pair shows whether the value is quoted.
    run = np.cumsum(~follows) - 1
    is_quoted = starts_value[~follows][run]
    ends_run = np.append(~follows[1:], True)
    wrong = is_quoted & ends_run & ~ends_value
    plain = np.flatnonzero(~is_quoted)
    if len(plain):
        breaks = np.flatnonzero((data == ord(separator)) | (data == NEWLINE))
        between = np.searchsorted(breaks, opening[plain]) != np.searchsorted(breaks, closing[plain])
        wrong[plain[between]] = True
    first = np.flatnonzero(wrong)
    if not len(first):
        return None
    pair = int(first[0])
    return int(closing[pair] if is_quoted[pair] else opening[pair])
