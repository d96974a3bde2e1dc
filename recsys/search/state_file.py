"""The progress of a search, in JSON that is written atomically."""

from pathlib import Path
from typing import Any

from recsys.distributed.context import Ranks
from recsys.errors import RecsysError
from recsys.io.atomic import write_json
from recsys.io.paths import read_bytes
from recsys.io.plain_data import parse_json


def write_state(path: Path, state: dict[str, Any], ranks: Ranks) -> None:
    """Rank 0 writes; all ranks have the same state."""
    if ranks.is_first:
        write_json(path, state)


def read_state(path: Path, ranks: Ranks) -> dict[str, Any] | None:
    """Rank 0's file, on every rank; None if there is none."""
    state = None
    if ranks.is_first and path.is_file():
        try:
            state = parse_json(read_bytes(path), str(path))
        except OSError as error:
            raise RecsysError(
                "the state of the search is damaged",
                where=path,
                got=str(error),
                fix="delete this file: the candidates are scored again",
            ) from None
    found: dict[str, Any] | None = ranks.broadcast(state)
    return found
