"""What the driver needs from whatever runs replicas: a few verbs, so that Ray is one backend of several."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from workflows.replica import ModelReplica
from workflows.tasks import Outcome, ReplicaProgress, Task

__all__ = ["Event", "Executor", "Finished", "LocalExecutor", "Lost", "Ready", "Role", "Worker"]

Role = Literal["replica", "evaluator"]


@dataclass(frozen=True)
class Worker:
    """A replica process, by number; `role` says what it prefers to do."""

    number: int
    role: Role


@dataclass(frozen=True)
class Ready:
    """A worker has started and takes work."""

    worker: Worker


@dataclass(frozen=True)
class Finished:
    """A worker has finished its task, well or not, and is free."""

    worker: Worker
    task: Task
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """A worker is gone, with the task it had, if any. Whatever it published stands."""

    worker: Worker
    task: Task | None
    reason: str


Event = Ready | Finished | Lost


class Executor(Protocol):
    """Runs replicas somewhere. A worker has at most one task; no call blocks but `wait`."""

    def most(self, role: Role) -> int:
        """Return how many workers of a role the machines can hold in all, as they are now."""
        ...

    def start(self, role: Role) -> Worker:
        """Start a worker; a `Ready` event follows, or `Lost`."""
        ...

    def assign(self, worker: Worker, task: Task) -> None:
        """Give a free worker a task; a `Finished` event follows, or `Lost`."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened, waiting for at most so long."""
        ...

    def progress(self) -> dict[Worker, ReplicaProgress]:
        """Return what the workers say they are doing, those that answer."""
        ...

    def stop_work(self) -> None:
        """Ask all running trajectories to publish a checkpoint and return."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


class LocalExecutor:
    """One replica in this very process; a task runs inside `wait`. For tests and machines without Ray."""

    def __init__(self, root: str, *, threads: int, device: str) -> None:
        # Whoever wants to hear about progress while `wait` runs sets this.
        self.listener: Callable[[ReplicaProgress], None] = lambda _: None
        self._replica = ModelReplica(root, threads=threads, device=device, listener=lambda p: self.listener(p))
        self._events: list[Event] = []
        self._assigned: tuple[Worker, Task] | None = None
        self._started = 0

    def most(self, role: Role) -> int:
        """One replica, no dedicated evaluator."""
        return 1 if role == "replica" else 0

    def start(self, role: Role) -> Worker:
        """Hand out the only worker."""
        self._started += 1
        worker = Worker(self._started, role)
        self._events.append(Ready(worker))
        return worker

    def assign(self, worker: Worker, task: Task) -> None:
        """Keep the task for the next `wait`."""
        self._assigned = (worker, task)

    def wait(self, seconds: float) -> list[Event]:
        """Run the task that was assigned, to its end."""
        if self._assigned is not None:
            (worker, task), self._assigned = self._assigned, None
            self._events.append(Finished(worker, task, self._replica.run(task)))
        events, self._events = self._events, []
        return events

    def progress(self) -> dict[Worker, ReplicaProgress]:
        """Nothing: progress arrives through the listener while `wait` runs."""
        return {}

    def stop_work(self) -> None:
        """Ask the replica to stop after the current batch."""
        self._replica.stop()

    def close(self) -> None:
        """Nothing to end."""
