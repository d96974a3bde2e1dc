"""The command line: `recsys COMMAND`, or `python -m recsys COMMAND`.

Exit codes: 0 done, or training stopped by a signal after writing a checkpoint; 2 wrong usage,
config or data, with one readable message; 128 + n ended by signal n; 1 a failure of ours.
"""

import errno
import sys

import typer
from typer.core import TyperCommand

from recsys.cli.data_commands import PrepareCommand, demo, doctor, prepare
from recsys.cli.export_commands import ExportCommand, export, verify
from recsys.cli.run_commands import compare, evaluate, plan, search, train
from recsys.errors import RecsysError
from recsys.io.memory import is_out_of_memory, out_of_memory
from recsys.io.stop_signals import ended_by_signals

COMMANDS = (doctor, demo, prepare, train, search, evaluate, export, verify, plan, compare)

app = typer.Typer(
    help="Train and export click-through-rate models; each feature has its own embedding method.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
LISTING = {prepare: PrepareCommand, export: ExportCommand}  # their help shows a list
for command in COMMANDS:
    app.command(cls=LISTING.get(command, TyperCommand))(command)

# Errors of the operating system that are not failures of ours: disk, quota, limits, permissions,
# file names.
OUTSIDE_CAUSES = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
)


@ended_by_signals()
def main() -> None:
    """Runs a command; a user's mistake becomes one message and exit code 2."""
    try:
        app()
    except RecsysError as error:
        message = error
    except Exception as error:
        _exit_if_rank_lost(error)
        found = _outside_cause(error)
        if found is None:
            raise
        message = found
    else:
        return
    typer.echo(f"error: {message}", err=True)
    sys.exit(2)


def _outside_cause(error: Exception) -> RecsysError | None:
    """The message for what the system refuses; None for failures of ours, which stay tracebacks."""
    if is_out_of_memory(error):
        return out_of_memory(error)
    if isinstance(error, ModuleNotFoundError) and not f"{error.name}".startswith("recsys"):
        return RecsysError(
            f"this command needs the package {error.name}, which is not installed",
            fix="run `recsys doctor`: it prints the command that installs it",
        )
    if isinstance(error, OSError) and error.errno in OUTSIDE_CAUSES:
        return RecsysError(str(error.strerror), where=error.filename or "unknown")
    return None


def _exit_if_rank_lost(error: Exception) -> None:
    if isinstance(error, RuntimeError) and "torch" in sys.modules:
        from recsys.distributed.launch import LOST_CONTACT, is_lost_contact

        if is_lost_contact(error):
            typer.echo("stopped: another rank ended", err=True)
            sys.exit(LOST_CONTACT)
