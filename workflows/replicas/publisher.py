"""Publications beside the edit loop: one thread, in order, and a batch waits for them only if memory is short."""

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch

from sphere_core.numerics.placement import free_memory

__all__ = ["Publisher"]

_LOGGER = logging.getLogger(__name__)
# Share of the free memory that publications under way may hold.
_SHARE = 0.25


class Publisher:
    """Runs publications in the order in which they are handed over; at the end of the block all of them are done.

    After one has failed no later one runs, and its error is raised by the next call or at the end of the block. If the
    block itself raises, publications that were handed over are completed, and an error of theirs is only logged.
    """

    def __init__(self, *, room: Callable[[], float] | None = None) -> None:
        self._room = room or (lambda: _SHARE * free_memory(torch.device("cpu")))
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publisher")
        self._pending: deque[tuple[Future[None], float]] = deque()
        self._failed: BaseException | None = None

    def submit(self, publish: Callable[[], None], size: float) -> None:
        """Hand over a publication that keeps `size` bytes alive until it is done.

        Waits for earlier ones while they and this one exceed the room. Raises the error of an earlier publication.
        """
        while self._pending and (self._pending[0][0].done() or self._held() + size > self._room()):
            self._settle_first()
        self._require_sound()
        self._pending.append((self._pool.submit(self._run, publish), size))

    def settle(self) -> None:
        """Wait for all publications; raises the error of the one that failed."""
        while self._pending:
            self._settle_first()
        self._require_sound()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.settle()
        finally:
            self._pool.shutdown(wait=True)
        if error is not None and self._failed is not None:
            _LOGGER.warning("a publication failed too: %s: %s", type(self._failed).__name__, self._failed)

    def _run(self, publish: Callable[[], None]) -> None:
        if self._failed is not None:
            return
        try:
            publish()
        except BaseException as fault:  # noqa: BLE001 - raised again in the thread that edits
            self._failed = fault

    def _held(self) -> float:
        return sum(size for _, size in self._pending)

    def _settle_first(self) -> None:
        self._pending.popleft()[0].result()

    def _require_sound(self) -> None:
        if self._failed is not None:
            raise self._failed
