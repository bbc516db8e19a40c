"""The shards of one set of second moments on a Ray cluster, or on this machine: replicas take one shard after another.

Shards hand their sums over as files below the store, which every node must therefore see. A shard whose worker is lost
is given to another, which resumes from the sums that the first one saved.
"""

from collections import Counter
from collections.abc import Callable

from sphere_core.foundation.storage_faults import StorageError
from workflows.driver.executor import Event, Executor, Finished, Lost, Ready, Worker
from workflows.moments.work import MomentsWork
from workflows.replicas.tasks import Done, Failed, MomentsShardTask, StorageFailed

__all__ = ["run_shards"]

_MAX_LOSSES = 3
_TICK_SECONDS = 0.5


def run_shards(
    executor: Executor, task: MomentsWork, shards: int, *, on_progress: Callable[[int], None] = lambda _: None
) -> None:
    """Have all shards of a set built; `on_progress` receives how far they are, the mean over shards.

    Raises RuntimeError if a shard fails, or has cost too many workers.
    """
    crew = _Crew([MomentsShardTask(task, shard, shards) for shard in range(shards)])
    done: dict[str, int] = {}
    while crew.left:
        while crew.workers < min(executor.most("replica"), crew.left):
            executor.start("replica")
            crew.workers += 1
        while crew.idle and crew.waiting:
            executor.assign(crew.idle.pop(), crew.waiting.pop(0))
        for event in executor.wait(_TICK_SECONDS):
            crew.follow(event)
        done |= {said.task: said.edits for said in executor.progress().values() if said.task is not None}
        on_progress(sum(done.values()) // shards)


class _Crew:
    """The shards that wait, and the workers there are for them."""

    def __init__(self, shards: list[MomentsShardTask]) -> None:
        self.waiting = shards
        self.left = len(shards)
        self.workers = 0
        self.idle: list[Worker] = []
        self._losses: Counter[str] = Counter()

    def follow(self, event: Event) -> None:
        """Take in what became of a worker or a shard."""
        match event:
            case Ready(worker):
                self.idle.append(worker)
            case Finished(worker, shard, outcome):
                if isinstance(outcome, Failed):
                    raise RuntimeError(f"{shard.name}: {outcome.error}: {outcome.message}\n{outcome.traceback}")
                if isinstance(outcome, StorageFailed):
                    raise StorageError(outcome.reason)
                if not isinstance(outcome, Done):
                    raise RuntimeError(f"{shard.name}: {outcome}")
                self.idle.append(worker)
                self.left -= 1
            case Lost(worker, shard, reason):
                self.workers -= 1
                if worker in self.idle:
                    # It had nothing to do; it went with its node.
                    self.idle.remove(worker)
                    return
                name = "a worker" if shard is None else shard.name
                self._losses[name] += 1
                if self._losses[name] >= _MAX_LOSSES:
                    raise RuntimeError(f"{name} was lost {_MAX_LOSSES} times; the last: {reason}")
                if isinstance(shard, MomentsShardTask):
                    self.waiting.append(shard)
