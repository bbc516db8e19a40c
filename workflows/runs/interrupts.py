"""SIGINT, SIGTERM and SIGHUP: the first requests a stop, a second SIGINT or SIGTERM ends the run at once."""

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["interrupts"]


@contextlib.contextmanager
def interrupts(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` at the first signal while the context lasts, and raise KeyboardInterrupt at a later one.

    `ask` runs inside a signal handler: it sets flags, and does nothing else. SIGHUP reports a closed terminal: output
    to it is discarded from then on, because writing would fail the run. Kernel and shell may both report it, so a
    second SIGHUP has no effect. If SIGHUP was ignored before (`nohup`), it stays ignored.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if number == signal.SIGHUP:
            _silence_closed_terminal()
        if asked and number != signal.SIGHUP:
            raise KeyboardInterrupt
        if not asked:
            asked = True
            ask()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _silence_closed_terminal() -> None:
    """Discard what is written to stdout and stderr if they are a terminal that no longer exists."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        # A closed terminal is a character device that fails the question whether it is a terminal.
        if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
