"""The one exception a user meets: what, where, what was expected, what came, what to do."""

import difflib
from collections.abc import Iterable


class RecsysError(Exception):
    """A wrong command, config or input: printed without a traceback, exit code 2."""

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
    ) -> None:
        lines = [what]
        for title, value in (("where", where), ("expected", expected), ("got", got), ("fix", fix)):
            if value is not None:
                lines.append(f"  {title + ':':<10}{value}")
        super().__init__("\n".join(lines))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Returns "did you mean 'x'?" for the nearest known name (in any case), or None."""
    choices = list(known)
    nearest = [choice for choice in choices if choice.strip().lower() == name.lower()]
    nearest = nearest or difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else None


def shorten(text: str, limit: int = 200) -> str:
    """The text, or its beginning if it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
