"""Whether the head of a cluster still answers, and what it last said of the nodes. Knows nothing of Ray.

A question to a head that is gone does not come back: Ray ends the asking process after a minute, in the middle of
whatever it does. So a thread of its own does all the asking, and who wants to know reads what it has brought; to end
with a word about what to do, one has to be sooner than Ray. Another thread counts for how long there was no answer: in
ticks of its own and not by a clock, so that the time in which this process itself stood still (Ctrl-Z, a machine that
was paused) counts for nothing.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from workflows.cluster.placement import Node
from workflows.driver.executor import ExecutorError

__all__ = ["PATIENCE_SECONDS", "ClusterWatch", "Snapshot"]

PATIENCE_SECONDS = 30.0
_ASK_SECONDS = 1.0
# How many ticks the patience has.
_TICKS = 30
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """What a cluster looked like: the nodes alive that stay, ids of all alive and of those with notice, all GPUs."""

    nodes: tuple[Node, ...]
    alive: frozenset[str]
    leaving: frozenset[str]
    gpus: float


class ClusterWatch:
    """Looks at a cluster again and again, in threads, from the first look in the constructor to `close`."""

    def __init__(
        self,
        look: Callable[[], Snapshot],
        address: str,
        *,
        every_seconds: float = _ASK_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """`look` may hang or raise where the cluster is gone; `address` is what the cluster is called then."""
        self._look = look
        self._address = address
        self._every_seconds = every_seconds
        self._tick_seconds = patience_seconds / _TICKS
        self._latest = look()
        self._silent_ticks = 0
        self._closed = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)
        self._thread.start()
        threading.Thread(target=self._count, name="cluster-patience", daemon=True).start()

    @property
    def is_lost(self) -> bool:
        """Whether the head has not answered for too long, while this process was there to hear it."""
        return self._silent_ticks > _TICKS

    def latest(self) -> Snapshot:
        """Return what was seen last; raises ExecutorError where that is too long ago."""
        if self.is_lost:
            raise ExecutorError(
                f"the head of the Ray cluster at {self._address} does not answer any more",
                "start the cluster again and give the same command: it goes on from the last checkpoints",
            )
        return self._latest

    def close(self) -> None:
        """Stop looking; a look that hangs is left to itself."""
        self._closed.set()
        while self._thread.is_alive() and not self.is_lost:
            self._thread.join(self._tick_seconds)

    def _watch(self) -> None:
        try:
            while not self._closed.wait(self._every_seconds):
                self._ask()
        finally:
            self._ended.set()

    def _ask(self) -> None:
        try:
            self._latest = self._look()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer; in the end it is a lost head
            _LOGGER.warning("the head of the cluster cannot be asked: %s: %s", type(error).__name__, error)
        else:
            self._silent_ticks = 0

    def _count(self) -> None:
        while not self._ended.wait(self._tick_seconds):
            self._silent_ticks += 1
