"""SIGTERM and SIGINT (Ctrl-C): how a command ends early, with one line instead of a traceback.

Training has its own way (`recsys.training.lightning.signals`): it writes a checkpoint first. All
else ends at once: what was being written has no name yet and is removed.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# One signal may come twice, from the terminal and from a parent that forwards it.
SAME_SIGNAL_SECONDS = 0.5
EXIT_CODE = 128  # plus the signal's number, as shells count: 143 for SIGTERM, 130 for Ctrl-C


class Interrupted(BaseException):
    """Raised by a signal wherever the main thread is; like KeyboardInterrupt, no Exception."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")

    @property
    def exit_code(self) -> int:
        return EXIT_CODE + self.signal


class StopSignals:
    """Notes the first signal while it is entered; the second one ends the process at once.

    `on_first` is called with the first signal's number. A signal that nobody has acted on when the
    block ends without an exception is sent again, to the handler from before.
    """

    def __init__(self, on_first: Callable[[int], None] | None = None) -> None:
        self.received = 0
        self._on_first = on_first
        self._since = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        entered = bool(self._previous)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave
        self._previous = {}
        if entered and self.received and kind is None and self._on_first is None:
            os.kill(os.getpid(), self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
            if self._on_first is not None:
                self._on_first(number)
        elif now - self._since > SAME_SIGNAL_SECONDS:
            name = signal.Signals(number).name
            os.write(2, f"stopped at once by a second signal, {name}\n".encode())
            os._exit(EXIT_CODE + number)


def _raise(number: int) -> None:
    raise Interrupted(number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Around a command: a signal ends it with one line and exit code 128 + the signal's number."""
    with StopSignals(_raise) as signals:
        try:
            yield
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            # A library may have turned the interrupt into an error of its own.
            if not signals.received:
                raise
            stop = error if isinstance(error, Interrupted) else Interrupted(signals.received)
            sys.stderr.write(f"{stop}\n")
            sys.exit(stop.exit_code)
