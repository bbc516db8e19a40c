"""The shards of one set of second moments on a Ray cluster, or on this machine: replicas take one shard after another.

Shards pass on their sums as files below the store, which every node must therefore see. A shard whose worker is lost is
given to another, which resumes from the sums the first one saved. Workers are started, lost and drained, and shards
retried, by the same loop and limits as in a sweep.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from sphere_core.foundation.storage_faults import StorageError
from workflows.driver.executor import Executor, Lost
from workflows.driver.retry_limits import RetryLimits
from workflows.driver.stalls import StallWatch
from workflows.driver.worker_loop import WorkerLoop
from workflows.driver.workers import Workers
from workflows.moments.work import MomentsWork
from workflows.replicas.tasks import (
    Done,
    Failed,
    MomentsShardTask,
    Outcome,
    OutOfMemory,
    ReplicaProgress,
    StorageFailed,
    Task,
    TaskKind,
)
from workflows.sweeps.resources import StallLimits

__all__ = ["run_shards"]


def run_shards(
    executor: Executor, work: MomentsWork, shards: int, *, on_progress: Callable[[int], None] = lambda _: None
) -> None:
    """Have all shards of a set built; `on_progress` receives how far they are, the mean over shards.

    Raises RuntimeError if a shard fails or has lost too many workers, ExecutorError if no worker can start, and
    StorageError if storage is full or keeps failing.
    """
    open_shards = _Shards([MomentsShardTask(work, shard, shards) for shard in range(shards)], on_progress)
    loop = WorkerLoop(executor, Workers(executor, evaluators=0), open_shards, StallWatch(StallLimits()))
    while loop.step():
        pass


class _Shards:
    """The shards that are not built yet, for a `WorkerLoop`."""

    def __init__(self, shards: list[MomentsShardTask], on_progress: Callable[[int], None]) -> None:
        self._waiting: deque[Task] = deque(shards)
        self._count = len(shards)
        self._on_progress = on_progress
        self._limits = RetryLimits()
        # Tokens done, by shard.
        self._done: dict[str, int] = {}

    def take(self, kinds: Iterable[TaskKind], model: str | None) -> Task | None:
        """Take the next shard."""
        return self._waiting.popleft() if self._waiting and "moments" in kinds else None

    def waiting(self) -> Mapping[TaskKind, int]:
        """Return how many shards could start now."""
        return {"moments": len(self._waiting), "trajectory": 0, "score": 0}

    def is_editing(self) -> bool:
        """No trajectory is edited here."""
        return False

    def heard(self, progress: ReplicaProgress) -> None:
        """Pass on how far the shards are."""
        if progress.task is not None:
            self._done[progress.task] = progress.edits
            self._on_progress(sum(self._done.values()) // self._count)

    def finished(self, task: Task, outcome: Outcome) -> None:
        """Take in how a shard ended."""
        match outcome:
            case Done():
                return
            case StorageFailed(reason):
                raise StorageError(reason)
            case OutOfMemory(message):
                self._try_again(task, self._limits.exhausted(task.name, message))
            case Failed():
                raise RuntimeError(_text(task, outcome))
            case _:
                raise RuntimeError(f"{task.name}: {outcome}")

    def lost(self, task: Task, lost: Lost, *, begun: bool) -> None:
        """Put a lost shard back, unless it has lost too many workers."""
        self._try_again(task, self._limits.lost(task.name, lost, begun=begun))

    def _try_again(self, task: Task, failed: Failed | None) -> None:
        if failed is not None:
            raise RuntimeError(_text(task, failed))
        self._waiting.appendleft(task)


def _text(task: Task, failed: Failed) -> str:
    return f"{task.name}: {failed.error}: {failed.message}\n{failed.traceback}".rstrip()
