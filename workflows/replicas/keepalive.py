"""Repeat a progress report from a thread during a long call."""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sphere_core.foundation.repeating import Repeating

__all__ = ["PULSE_SECONDS", "KeepAlive"]

PULSE_SECONDS = 10.0
_LOGGER = logging.getLogger(__name__)


class KeepAlive:
    """Calls `beat` every `seconds` while the context is active, never after it has ended; an error of `beat` ends it.

    The error is only logged: the work itself finds a lost lease or unavailable storage at its next publication.
    """

    def __init__(self, beat: Callable[[], None], *, seconds: float = PULSE_SECONDS) -> None:
        self._beat = beat
        self._repeating = Repeating(self._report, seconds=seconds, name="keepalive")

    def __enter__(self) -> Self:
        self._repeating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._repeating.stop()

    def _report(self) -> bool:
        try:
            self._beat()
        except Exception as fault:  # noqa: BLE001 - the work itself handles it
            _LOGGER.warning("progress is no longer reported: %s: %s", type(fault).__name__, fault)
            return False
        return True
