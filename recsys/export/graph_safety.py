"""A .pt2 file is read only when nothing in it could run code: torch's own reader trusts the file.

That reader unpickles entries that say so, evaluates the expressions of symbolic sizes, and executes
the guards. An export of ours needs none of the first and only arithmetic in the others.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from recsys.errors import RecsysError

ENTRIES = re.compile(
    r"[^/]+/(data/(weights/weight_\d+|constants/tensor_\d+|(weights|constants)/\w+_config\.json)"
    r"|data/sample_inputs/\w+\.pt|models/\w+\.json|archive_format|archive_version|byteorder"
    r"|(\.data/)?(version|serialization_id))"
)
OPERATORS = re.compile(
    r"torch\.ops\.aten\.\w+(\.\w+)?"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|getitem)"
)
# Numbers, comparisons and calls of the names below; nothing with an attribute but `.size`.
ARITHMETIC = re.compile(r"([A-Za-z_]\w*|'\w+'|\.size\(\)|\d+|[\s()\[\],=<>!+*/%-])*")
WORDS = re.compile(
    r"[su]\d+|L|inputs|size|Symbol|Integer|positive|integer|True|False|Eq|Ne|Lt|Le|Gt|Ge|Max|Min"
    r"|Mod|PythonMod|FloorDiv|CleanDiv|Mul|Add|Pow|and|or|not"
)


def check_runs_no_code(path: Path) -> None:
    """Refuses a .pt2 file that holds pickles, unknown operators or more than arithmetic."""
    try:
        with zipfile.ZipFile(path) as archive:
            reason = next(_suspicions(archive), None)
    except (zipfile.BadZipFile, ValueError, AttributeError, RecursionError, OSError) as error:
        reason = f"it cannot be read: {error}"
    if reason is not None:
        raise RecsysError(
            "the graph is damaged or was not written by `recsys export`, and is not loaded",
            where=path,
            got=reason,
            fix="compare with the run: --run DIR",
        )


def _suspicions(archive: zipfile.ZipFile) -> Iterator[str]:
    names = archive.namelist()
    if len(set(names)) < len(names):
        yield "two entries of one name"
    for entry in archive.infolist():
        if not ENTRIES.fullmatch(entry.filename):
            yield f"the entry {entry.filename!r}"
        elif entry.filename.endswith(".pt") and entry.file_size:
            yield f"a pickle in {entry.filename!r}"
        elif entry.filename.endswith(".json"):
            for key, value in _values(json.loads(archive.read(entry)), ""):
                if not _is_harmless(key, value):
                    yield f"{key}: {value!r}"


def _values(content: object, key: str) -> Iterator[tuple[str, object]]:
    """(nearest key, value) of everything in nested JSON; the names of symbols are values too."""
    if isinstance(content, dict):
        if key == "range_constraints":
            yield from (("expr_str", name) for name in content)
        for name, item in content.items():
            yield from _values(item, name)
    elif isinstance(content, list):
        for item in content:
            yield from _values(item, key)
    else:
        yield key, content


def _is_harmless(key: str, value: object) -> bool:
    match key:
        case "use_pickle":
            return value is False
        case "path_name":
            return bool(re.fullmatch(r"(weight|tensor)_\d+", str(value)))
        case "target":
            return bool(OPERATORS.fullmatch(str(value)))
        case "expr_str" | "guards_code":
            return _is_arithmetic(str(value))
        case _:
            return True


def _is_arithmetic(text: str) -> bool:
    words = re.findall(r"[A-Za-z_]\w*", text)
    return bool(ARITHMETIC.fullmatch(text)) and all(WORDS.fullmatch(word) for word in words)
