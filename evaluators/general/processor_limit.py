"""A limit of processor time on code of the harness that a task file can make run without end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ProcessorLimitError", "processor_limit"]


class ProcessorLimitError(Exception):
    """A piece of work took more processor time than it may."""


@contextmanager
def processor_limit(seconds: float, *, what: str) -> Iterator[None]:
    """Raise ProcessorLimitError in the block once this process has computed for so long, also inside `re`.

    Python's regular expressions look for signals while they match, and take any number of steps for some patterns. Only
    the main thread can be interrupted so; in another the block has no limit. The timer and its handler are as before
    when the block ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise ProcessorLimitError(f"{what} took more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
