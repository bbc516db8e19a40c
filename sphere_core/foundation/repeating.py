"""A call that a thread repeats: heartbeats, progress during a long batch, looks at a cluster."""

import threading
from collections.abc import Callable

__all__ = ["Repeating"]


class Repeating:
    """Calls `beat` every `seconds` in a daemon thread, from `start` until `stop`, or until `beat` returns False.

    The first call comes `seconds` after the start. What `beat` raises ends the thread; a caller that wants another
    rule handles it in `beat`.
    """

    def __init__(self, beat: Callable[[], bool], *, seconds: float, name: str) -> None:
        self._beat = beat
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; once only."""
        self._thread.start()

    def stop(self, *, wait_seconds: float | None = None) -> None:
        """Have no further call made and wait for the one under way, for at most `wait_seconds`."""
        self._stopping.set()
        self._thread.join(wait_seconds)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            if not self._beat():
                return
