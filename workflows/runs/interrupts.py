"""SIGINT and SIGTERM: the first requests a stop, a second one ends the run at once."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["interrupts"]


@contextlib.contextmanager
def interrupts(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` at the first signal while the context lasts, and raise KeyboardInterrupt at any later one.

    `ask` runs inside a signal handler: it sets flags, and does nothing else.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        ask()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
