"""Repeat a progress report from a thread during a long call."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from sphere_core.foundation.repeating import Repeating
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.work_progress import WorkProgress
from workflows.store.layout import task_progress_path
from workflows.store.records import TaskProgress

__all__ = ["PULSE_SECONDS", "KeepAlive", "noted"]

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


@contextmanager
def noted(name: str, title: str, work: WorkProgress, storage: Storage) -> Iterator[None]:
    """Keep a file with how far a task is while it runs, and remove it at the end."""
    path = task_progress_path(name)

    def note() -> None:
        if work.position is not None:
            TaskProgress(title=title, within=work.position, at=time.time()).write(storage, path)

    with KeepAlive(note):
        yield
    storage.delete(path)
