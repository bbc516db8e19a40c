"""Waiting for an event of another process or thread; what never happens is ended by pytest's own timeout."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["repeating", "wait_until"]


def wait_until(holds: Callable[[], object], *, of: subprocess.Popen[str] | None = None, every: float = 0.01) -> None:
    """Return once a condition holds; fail where the process that is to make it hold has ended before."""
    while not holds():
        if of is not None and of.poll() is not None and not holds():
            said = of.communicate()[0] if of.stdout is not None else "its output is elsewhere"
            raise AssertionError(f"the process ended with {of.returncode} before: {said}")
        time.sleep(every)


@contextmanager
def repeating(act: Callable[[int], object], *, seconds: float = 0.02) -> Iterator[None]:
    """Call `act` with 1, 2, 3 and so on, in a thread, while the context lasts."""
    ended = threading.Event()

    def repeat() -> None:
        number = 0
        while not ended.wait(seconds):
            number += 1
            act(number)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
