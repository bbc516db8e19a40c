"""Watch whether the head of a cluster still answers, and keep its last view of the nodes. Independent of Ray.

A call to a head that is gone does not return: Ray ends the calling process after a minute, in the middle of its work.
So a separate thread makes all calls, and others read its last result; to end with a clear message, the driver has to
act before Ray does. Another thread counts how long there was no answer, in its own ticks and not by a clock, so that
time in which this process itself was suspended (Ctrl-Z, a paused machine) does not count.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sphere_core.foundation.repeating import Repeating
from workflows.cluster.placement import Node
from workflows.driver.executor import ExecutorError

__all__ = ["PATIENCE_SECONDS", "ClusterWatch", "Snapshot"]

PATIENCE_SECONDS = 30.0
_ASK_SECONDS = 1.0
# Ticks without an answer after which the head is lost.
_TICKS = 30
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """One view of a cluster: the remaining live nodes, ids of all live nodes and of those with notice, all GPUs."""

    nodes: tuple[Node, ...]
    alive: frozenset[str]
    leaving: frozenset[str]
    gpus: float


class ClusterWatch:
    """Looks at a cluster repeatedly, in threads, from the first look in the constructor to `close`."""

    def __init__(
        self,
        look: Callable[[], Snapshot],
        address: str,
        *,
        every_seconds: float = _ASK_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """`look` may hang or raise if the cluster is gone; `address` names the cluster in errors."""
        self._look = look
        self._address = address
        self._tick_seconds = patience_seconds / _TICKS
        self._latest = look()
        self._silent_ticks = 0
        self._asking = Repeating(self._ask, seconds=every_seconds, name="cluster-watch")
        self._counting = Repeating(self._count, seconds=self._tick_seconds, name="cluster-patience")
        self._asking.start()
        self._counting.start()

    @property
    def is_lost(self) -> bool:
        """Whether the head has not answered for too long, suspended time not counted."""
        return self._silent_ticks > _TICKS

    def latest(self) -> Snapshot:
        """Return the last view; raises ExecutorError if it is too old."""
        if self.is_lost:
            raise ExecutorError(
                f"the head of the Ray cluster at {self._address} does not answer any more",
                "start the cluster again, then run the same command to resume from the last checkpoints",
            )
        return self._latest

    def close(self) -> None:
        """Stop looking; a hanging call is abandoned."""
        self._asking.stop(wait_seconds=self._tick_seconds)
        while self._asking.is_alive and not self.is_lost:
            self._asking.stop(wait_seconds=self._tick_seconds)
        self._counting.stop()

    def _ask(self) -> bool:
        try:
            self._latest = self._look()
        except Exception as error:  # noqa: BLE001 - any error counts as no answer; repeated, as a lost head
            _LOGGER.warning("the head of the cluster cannot be asked: %s: %s", type(error).__name__, error)
        else:
            self._silent_ticks = 0
        return True

    def _count(self) -> bool:
        self._silent_ticks += 1
        return True
