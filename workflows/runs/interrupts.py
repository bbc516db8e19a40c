"""SIGINT, SIGTERM and SIGHUP: the first requests a stop, a second SIGINT or SIGTERM ends the run at once.

Python runs a handler only between two steps of the main thread, and merges signals that arrive before it has: during
one long call of torch, two are one and nothing is said. So a thread reads them as they arrive, from the descriptor that
the interpreter writes each to.
"""

import contextlib
import logging
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from sphere_core.foundation.durations import duration

__all__ = ["interrupts"]

# Seconds for the main thread to act on a signal by itself, and to unwind once it is to end.
_REACT_SECONDS, _UNWIND_SECONDS = 1.0, 15.0
_STOPPED = 130
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOGGER = logging.getLogger(__name__)


@contextlib.contextmanager
def interrupts(ask: Callable[[], None], *, grace_seconds: float | None = None) -> Iterator[None]:
    """Call `ask` at the first signal while the context lasts, and raise KeyboardInterrupt at a later one.

    `ask` runs inside a signal handler: it sets flags, and does nothing else. SIGHUP reports a closed terminal: output
    to it is discarded from then on, because writing would fail the run. Kernel and shell may both report it, so a
    second SIGHUP has no effect. If SIGHUP was ignored before (`nohup`), it stays ignored. With `grace_seconds`, for
    work in this very process, KeyboardInterrupt is raised that long after the first signal as well; a process that
    does not unwind then is ended with exit code 130, whatever call it is in.
    """
    asked = raised = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked, raised
        if number == signal.SIGHUP:
            _silence_closed_terminal()
        again = asked and number != signal.SIGHUP
        # Once for each: what the thread sends does not count.
        if (again and not watch.due) or (watch.due and not raised):
            raised = True
            raise KeyboardInterrupt
        if not asked:
            asked = True
            ask()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    watch = _Arrivals(lambda: raised, grace_seconds)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        with watch:
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Arrivals:
    """Reads signals as they arrive, in a thread: says at once what happens, and sees to it that it does."""

    def __init__(self, raised: Callable[[], bool], grace_seconds: float | None) -> None:
        # Set when the main thread is to raise at its next handler.
        self.due = False
        self._raised = raised
        self._grace = grace_seconds
        self._asked_at: float | None = None
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._main = threading.main_thread().ident
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)

    def __enter__(self) -> None:
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._read], [], [], self._left())
            arrived = os.read(self._read, 64) if ready else b""
            if ready and not arrived:
                return
            if not ready:
                self._end(f"the batch under way has not ended within {duration(self._grace or 0)}")
                return
            for number in (one for one in arrived if one in _NUMBERS):
                if self._asked_at is None:
                    self._asked_at = time.monotonic()
                    within = "" if self._grace is None else f", within {duration(self._grace)}"
                    _LOGGER.warning(
                        "stopping: batches under way are ended and published%s; the same signal again ends at once",
                        within,
                    )
                elif number != signal.SIGHUP:
                    self._end("")
                    return

    def _left(self) -> float | None:
        if self._asked_at is None or self._grace is None:
            return None
        return max(0.0, self._asked_at + self._grace - time.monotonic())

    def _end(self, why: str) -> None:
        """Have the main thread raise; where it works itself and does not unwind, end the process."""
        if why:
            _LOGGER.warning("%s: the run ends now, at its last checkpoints", why)
        elif self._closed_within(_REACT_SECONDS) or self._raised():
            return
        self.due = True
        # Wakes the main thread from a call that waits; a handler that was merged with an earlier one runs again.
        signal.pthread_kill(self._main or 0, signal.SIGTERM)
        if self._grace is not None and not self._closed_within(_UNWIND_SECONDS):
            sys.stderr.write(
                "a call does not return: ended; run the same command to resume from the last checkpoints\n"
            )
            sys.stderr.flush()
            os._exit(_STOPPED)

    def _closed_within(self, seconds: float) -> bool:
        """Return whether the context ends within some seconds; signals that arrive meanwhile are dropped."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._read], [], [], left)[0] and not os.read(self._read, 64):
                return True
        return False


def _silence_closed_terminal() -> None:
    """Discard what is written to stdout and stderr if they are a terminal that no longer exists."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        # A closed terminal is a character device that fails the question whether it is a terminal.
        if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
