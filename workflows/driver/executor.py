"""What the driver needs from whatever runs replicas: a few verbs, so that Ray is one backend of several."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from workflows.replicas.tasks import Outcome, ReplicaProgress, Task

__all__ = ["Event", "Executor", "ExecutorError", "Finished", "Leaving", "Listener", "Lost", "Ready", "Role", "Worker"]

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
    """A worker is gone, with the task it had, if any. What it published stays.

    `machine_gone`: its machine was taken away, which says nothing about the task. `unreachable`: its process or machine
    is gone, or out of reach; whether the task was begun there is not known.
    """

    worker: Worker
    task: Task | None
    reason: str
    out_of_memory: bool = False
    machine_gone: bool = False
    unreachable: bool = False


@dataclass(frozen=True)
class Leaving:
    """A worker's machine is about to go; what the worker does should end soon, and nothing new begin."""

    worker: Worker


Event = Ready | Finished | Lost | Leaving
Listener = Callable[[Worker, ReplicaProgress], None]


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
        """Return what has happened, waiting for at most so long; longer where a task runs inside this call."""
        ...

    def on_progress(self, listener: Listener) -> None:
        """Have `listener` called, inside `wait`, with what busy workers say of their tasks; listeners add up."""
        ...

    def stop_work(self, worker: Worker | None = None) -> None:
        """Ask all running trajectories, or one worker's, to publish a checkpoint and return.

        Only notes the request, which takes effect at the next batch or the next `wait`: a signal handler may call it
        while `wait` runs.
        """
        ...

    def end(self, worker: Worker) -> None:
        """End a worker that has no task; no event follows."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...
