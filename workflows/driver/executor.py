"""What the driver needs from whatever runs replicas: a few verbs, so that Ray is one backend of several."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from workflows.replicas.replica import BrokenReplicaError, ModelReplica
from workflows.replicas.tasks import Outcome, ReplicaProgress, Task

__all__ = [
    "Event",
    "Executor",
    "ExecutorError",
    "Finished",
    "Leaving",
    "LocalExecutor",
    "Lost",
    "Ready",
    "Role",
    "Worker",
]

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
    """A worker is gone, with the task it had, if any. Whatever it published stands.

    `blameless`: it went with its machine, which says nothing about the task. `unreachable`: its process or machine
    is gone, or out of reach; whether the task was begun there is not known.
    """

    worker: Worker
    task: Task | None
    reason: str
    out_of_memory: bool = False
    blameless: bool = False
    unreachable: bool = False


@dataclass(frozen=True)
class Leaving:
    """A worker's machine is about to go; what the worker does should end soon, and nothing new begin."""

    worker: Worker


Event = Ready | Finished | Lost | Leaving


class ExecutorError(RuntimeError):
    """What runs the workers has failed as a whole: no worker can start, the cluster is gone."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


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

    def stop_work(self, worker: Worker | None = None) -> None:
        """Ask all running trajectories, or one worker's, to publish a checkpoint and return."""
        ...

    def end(self, worker: Worker) -> None:
        """End a worker that has no task; no event follows."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


class LocalExecutor:
    """One replica in this very process; a task runs inside `wait`. For tests and machines without Ray."""

    def __init__(self, root: str, *, threads: int, device: str) -> None:
        # Whoever wants to hear about progress while `wait` runs sets this.
        self.listener: Callable[[ReplicaProgress], None] = lambda _: None
        self._make = lambda: ModelReplica(root, threads=threads, device=device, listener=lambda p: self.listener(p))
        self._replica = self._make()
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
            self._events.append(self._run(worker, task))
        events, self._events = self._events, []
        return events

    def progress(self) -> dict[Worker, ReplicaProgress]:
        """Nothing: progress arrives through the listener while `wait` runs."""
        return {}

    def _run(self, worker: Worker, task: Task) -> Event:
        try:
            return Finished(worker, task, self._replica.run(task))
        except KeyboardInterrupt:
            # Told to whoever waits next: the task is over.
            self._events.append(Lost(worker, task, "interrupted"))
            raise
        except BrokenReplicaError as error:
            remedy = "run the same command again: a new process goes on from the last checkpoints"
            raise ExecutorError(f"the accelerator has failed: {error}", remedy) from error

    def stop_work(self, worker: Worker | None = None) -> None:
        """Ask the replica to stop after the current batch."""
        self._replica.stop()

    def end(self, worker: Worker) -> None:
        """Put a new replica in the place of the one there was."""
        self._replica = self._make()

    def close(self) -> None:
        """Nothing to end."""
