"""Whether a task is to be tried again after it has cost a worker, or has failed: what is counted, and when too often.

Counts are kept in memory by one run. A run that begins anew begins to count anew: a task that kills every worker that
takes it fails then as well, a little later.
"""

from collections import Counter

from workflows.replicas.tasks import Failed

__all__ = ["MAX_DAMAGED", "MAX_EXHAUSTED", "MAX_LOSSES", "MAX_STILLBORN", "MAX_UNBEGUN", "RetryLimits"]

# How often a task may lose its worker, with nothing new published in between, before it counts as its fault.
MAX_LOSSES = 3
# How often a task may lose its worker before the worker had begun with it.
MAX_UNBEGUN = 20
# How often a task may run out of memory in the same way: once may be a neighbour's fault.
MAX_EXHAUSTED = 2
# How often a checkpoint may turn out damaged when it is to be scored.
MAX_DAMAGED = 3
# How many workers may die in a row before their first task.
MAX_STILLBORN = 5


class RetryLimits:
    """Counts by name of task; each method notes one event and returns the failure it makes, or None: try again."""

    def __init__(self) -> None:
        self._losses: Counter[str] = Counter()
        self._unbegun: Counter[str] = Counter()
        self._exhausted: Counter[str] = Counter()
        self._damaged: Counter[str] = Counter()
        self._stillborn = 0

    def lost(self, task: str, reason: str, *, begun: bool, blameless: bool) -> Failed | None:
        """Note that a task's worker was lost; `begun`: once it had begun, `blameless`: its machine was taken away."""
        counts, most = (self._losses, MAX_LOSSES) if begun else (self._unbegun, MAX_UNBEGUN)
        counts[task] += not blameless
        if counts[task] < most:
            return None
        message = f"its worker was lost {most} times with nothing new published in between; last: {reason}"
        return Failed("WorkerLost", message, "")

    def exhausted(self, task: str, reason: str) -> Failed | None:
        """Note that a task has run out of memory, or was ended for the memory it took."""
        self._exhausted[task] += 1
        if self._exhausted[task] < MAX_EXHAUSTED:
            return None
        remedy = "give a replica more: fewer on a node, or a smaller batch; `sphere doctor` says how much it needs"
        message = (
            f"ran out of memory {MAX_EXHAUSTED} times with nothing new published in between; last: {reason}; {remedy}"
        )
        return Failed("OutOfMemory", message, "")

    def damaged(self, task: str, reason: str) -> Failed | None:
        """Note that the checkpoint a task was to score is damaged."""
        self._damaged[task] += 1
        if self._damaged[task] < MAX_DAMAGED:
            return None
        return Failed("DamagedCheckpoint", f"damaged {MAX_DAMAGED} times: {reason}", "")

    def published(self, task: str) -> None:
        """Note that a task has got further: what happened to it before says nothing about it any more."""
        del self._losses[task], self._unbegun[task], self._exhausted[task]

    def stillborn(self) -> int | None:
        """Note that a worker has died before it was ready; return how many in a row where those are too many."""
        self._stillborn += 1
        return self._stillborn if self._stillborn >= MAX_STILLBORN else None

    def born(self) -> None:
        """Note that a worker is ready."""
        self._stillborn = 0
