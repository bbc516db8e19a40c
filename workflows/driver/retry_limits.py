"""Whether a task is retried after it has lost a worker or failed, and how many workers may fail to start.

Counts are kept in memory by one run. A new run counts from zero: a task that kills every worker then fails again, a
little later.
"""

from collections import Counter

from workflows.driver.executor import Lost
from workflows.replicas.tasks import Failed

__all__ = [
    "MAX_DAMAGED",
    "MAX_EXHAUSTED",
    "MAX_FAILED_STARTS",
    "MAX_LOSSES",
    "MAX_LOSSES_UNBEGUN",
    "FailedStarts",
    "RetryLimits",
]

# Losses of its worker, with nothing new published in between, after which the task counts as the cause.
MAX_LOSSES = 3
# Losses of a task's worker before the worker had begun with it.
MAX_LOSSES_UNBEGUN = 20
# Failures for lack of memory: one may be caused by another process of the machine.
MAX_EXHAUSTED = 2
# Times that a checkpoint may be damaged when it is to be scored.
MAX_DAMAGED = 3
# Workers in a row that may end before they are ready.
MAX_FAILED_STARTS = 5


class RetryLimits:
    """Counts by name of task; each method notes one event and returns the resulting failure, or None: try again."""

    def __init__(self) -> None:
        self._losses: Counter[str] = Counter()
        self._unbegun: Counter[str] = Counter()
        self._exhausted: Counter[str] = Counter()
        self._damaged: Counter[str] = Counter()

    def lost(self, task: str, lost: Lost, *, begun: bool) -> Failed | None:
        """Note that a task's worker was lost; `begun`: the worker had begun with the task."""
        if lost.out_of_memory:
            return self.exhausted(task, lost.reason)
        counts, most = (self._losses, MAX_LOSSES) if begun else (self._unbegun, MAX_LOSSES_UNBEGUN)
        counts[task] += not lost.machine_gone
        if counts[task] < most:
            return None
        message = f"its worker was lost {most} times with nothing new published in between; last: {lost.reason}"
        return Failed("WorkerLost", message, "")

    def exhausted(self, task: str, reason: str) -> Failed | None:
        """Note that a task ran out of memory, or was ended because of its memory."""
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
        """Note that a task has published something new: earlier events no longer count."""
        del self._losses[task], self._unbegun[task], self._exhausted[task]


class FailedStarts:
    """Workers that ended before they were ready, in a row."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def failed(self) -> bool:
        """Note one; return whether the limit is reached."""
        self.in_a_row += 1
        return self.in_a_row >= MAX_FAILED_STARTS

    def succeeded(self) -> None:
        """Note that a worker is ready."""
        self.in_a_row = 0
