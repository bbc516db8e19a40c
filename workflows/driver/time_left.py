"""How long work takes, from how long workers were busy with it: the basis of the time left."""

import time
from dataclasses import dataclass

from workflows.driver.executor import Worker
from workflows.driver.tracking import Counts
from workflows.replicas.tasks import ReplicaProgress, Task, TaskKind

__all__ = ["TimeLeft"]


class TimeLeft:
    """Adds up busy seconds by kind of work, tasks under way included; start-up is left out.

    A trajectory counts from its first report, when its model is loaded; the first score of each worker, which loads
    one, counts only as long as there is no other.
    """

    def __init__(self) -> None:
        self._tasks: dict[Worker, _Running] = {}
        self._editing = 0.0
        self._editing_since: float | None = None
        self._first_scores: dict[Worker, float] = {}
        self._scoring, self._scored = 0.0, 0
        self._first: Counts | None = None

    def begin(self, worker: Worker, task: Task) -> None:
        """Note that a worker starts a task."""
        self._tasks[worker] = _Running(task.kind, time.monotonic())

    def heard(self, worker: Worker, progress: ReplicaProgress) -> None:
        """Note a report of a worker: with edits to do, its model is loaded."""
        running = self._tasks.get(worker)
        if running is not None and running.kind == "trajectory" and progress.of and running.loaded is None:
            running.loaded = time.monotonic()
            if self._editing_since is None:
                self._editing_since = running.loaded

    def end(self, worker: Worker) -> None:
        """Note that a worker's task has ended, whatever its outcome."""
        running = self._tasks.pop(worker, None)
        if running is None:
            return
        if running.kind == "trajectory":
            self._editing += running.seconds
        elif running.kind == "score" and worker not in self._first_scores:
            self._first_scores[worker] = running.seconds
        elif running.kind == "score":
            self._scoring, self._scored = self._scoring + running.seconds, self._scored + 1

    def edits_per_second(self, counts: Counts) -> float:
        """Return the edits per second of the whole run since the first model was loaded, all workers together."""
        first = self._baseline(counts)
        if self._editing_since is None:
            return 0.0
        return (counts.edits_done - first.edits_done) / max(time.monotonic() - self._editing_since, 1e-9)

    def seconds_left(self, counts: Counts, workers: int) -> float | None:
        """Return the expected seconds to the end with `workers` workers; None while a kind of work is unmeasured."""
        edited = counts.edits_done - self._baseline(counts).edits_done
        spent = self._editing + sum(one.seconds for one in self._tasks.values() if one.kind == "trajectory")
        rates = (spent / edited if edited > 0 and spent > 0 else None, self._seconds_per_score())
        total = 0.0
        for rate, todo in zip(
            rates, (counts.edits - counts.edits_done, counts.scores - counts.scores_done), strict=True
        ):
            if todo <= 0:
                continue
            if rate is None:
                return None
            total += todo * rate
        return total / max(workers, 1)

    def _seconds_per_score(self) -> float | None:
        if self._scored:
            return self._scoring / self._scored
        first = list(self._first_scores.values())
        return sum(first) / len(first) if first else None

    def _baseline(self, counts: Counts) -> Counts:
        if self._first is None:
            self._first = counts
        return self._first


@dataclass
class _Running:
    """A task under way: when it began, and for a trajectory when its model was loaded."""

    kind: TaskKind
    begun: float
    loaded: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds that it has been at work: nothing while its model is loaded."""
        if self.kind == "trajectory":
            return 0.0 if self.loaded is None else time.monotonic() - self.loaded
        return time.monotonic() - self.begun
