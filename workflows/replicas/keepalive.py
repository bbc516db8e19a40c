"""Saying the same again every so often, in a thread, while something takes its time."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["PULSE_SECONDS", "KeepAlive"]

PULSE_SECONDS = 10.0
_LOGGER = logging.getLogger(__name__)


class KeepAlive:
    """Calls `beat` every so many seconds while the context lasts, never once it has ended; what `beat` raises ends it.

    Whoever owns the work finds out by itself what is wrong: the lease that is gone, the storage that gives out.
    """

    def __init__(self, beat: Callable[[], None], *, seconds: float = PULSE_SECONDS) -> None:
        self._beat = beat
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keepalive", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self._beat()
            except Exception as fault:  # noqa: BLE001 - not this thread's to handle
                _LOGGER.warning("nothing more is said of what goes on: %s: %s", type(fault).__name__, fault)
                return
