"""How long work takes, from how long workers were busy with it: the basis of the time left."""

import time
from collections import defaultdict

from workflows.driver.executor import Worker
from workflows.driver.tracking import Counts
from workflows.replicas.tasks import Task, TaskKind

__all__ = ["TimeLeft"]


class TimeLeft:
    """Adds up busy seconds by kind of work, tasks under way included."""

    def __init__(self) -> None:
        self._spent: defaultdict[TaskKind, float] = defaultdict(float)
        self._since: dict[Worker, tuple[TaskKind, float]] = {}
        self._first: Counts | None = None
        self._started = time.monotonic()

    def begin(self, worker: Worker, task: Task) -> None:
        """Note that a worker starts a task."""
        self._since[worker] = (task.kind, time.monotonic())

    def end(self, worker: Worker) -> None:
        """Note that a worker's task is over, well or not."""
        if worker in self._since:
            kind, since = self._since.pop(worker)
            self._spent[kind] += time.monotonic() - since

    def edits_per_second(self, counts: Counts) -> float:
        """Return the edits per second of the whole run so far, all workers together."""
        first = self._baseline(counts)
        return (counts.edits_done - first.edits_done) / max(time.monotonic() - self._started, 1e-9)

    def seconds_left(self, counts: Counts, workers: int) -> float | None:
        """Return the expected seconds to the end with so many workers; None while a kind of work is unmeasured."""
        first = self._baseline(counts)
        total = 0.0
        kinds: tuple[tuple[TaskKind, int, int], ...] = (
            ("trajectory", counts.edits_done - first.edits_done, counts.edits - counts.edits_done),
            ("score", counts.scores_done - first.scores_done, counts.scores - counts.scores_done),
        )
        for kind, done, todo in kinds:
            if todo <= 0:
                continue
            if done <= 0:
                return None
            total += todo * self._seconds(kind) / done
        return total / max(workers, 1)

    def _baseline(self, counts: Counts) -> Counts:
        if self._first is None:
            self._first = counts
        return self._first

    def _seconds(self, kind: TaskKind) -> float:
        now = time.monotonic()
        return self._spent[kind] + sum(now - since for name, since in self._since.values() if name == kind)
