"""Runs `recsys` commands as users do, and says what a refusal must look like."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from recsys.cli.main import main

# What training and prepare say of themselves before they fail.
PROGRESS = ("epoch ", "checkpoint step-", "read: ", "fit: ", "write: ")
MESSAGE_PARTS = ("  where:", "  expected:", "  got:", "  fix:")


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def is_refusal(self, *words: str, code: int = 2) -> bool:
        """One message that holds all the words, and neither a traceback nor a second message."""
        assert "Traceback" not in self.out + self.err, self.err
        assert self.code == code, (self.code, self.out, self.err)
        before, first, message = f"\n{self.err}".partition("\nerror: ")
        assert first, self.err
        assert all(line.startswith(PROGRESS) for line in before.split("\n") if line), self.err
        _, *rest = message.rstrip("\n").split("\n")
        assert all(line.startswith(MESSAGE_PARTS) for line in rest), message
        assert [word for word in words if word not in message] == [], message
        return True


def run(*arguments: object) -> Outcome:
    """One command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    argv = ["recsys", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


def files_below(folder: Path) -> list[str]:
    """Every file and folder, hidden ones too, relative to the folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
