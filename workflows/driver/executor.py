"""The protocol between the driver and whatever runs replicas; Ray is one implementation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from workflows.replicas.tasks import Outcome, ReplicaProgress, Task

__all__ = ["Event", "Executor", "ExecutorError", "Finished", "Leaving", "Listener", "Lost", "Ready", "Role", "Worker"]

Role = Literal["replica", "evaluator"]


@dataclass(frozen=True)
class Worker:
    """A replica process, by number; `role` is its preferred kind of task."""

    number: int
    role: Role


@dataclass(frozen=True)
class Ready:
    """A worker has started and accepts tasks."""

    worker: Worker


@dataclass(frozen=True)
class Finished:
    """A worker has finished its task, successfully or not, and is free."""

    worker: Worker
    task: Task
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """A worker is gone, with its task, if any. What it published is kept.

    `machine_gone`: its machine was removed, which is not evidence against the task. `unreachable`: its process or
    machine is gone or out of reach; whether the task was begun there is unknown.
    """

    worker: Worker
    task: Task | None
    reason: str
    out_of_memory: bool = False
    machine_gone: bool = False
    unreachable: bool = False


@dataclass(frozen=True)
class Leaving:
    """A worker's machine has notice to leave; its task should end soon, and nothing new begin."""

    worker: Worker


Event = Ready | Finished | Lost | Leaving
Listener = Callable[[Worker, ReplicaProgress], None]


class ExecutorError(RuntimeError):
    """The executor has failed as a whole: no worker can start, the cluster is gone."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Executor(Protocol):
    """Runs replicas somewhere. A worker has at most one task; no call blocks except `wait`."""

    def most(self, role: Role) -> int:
        """Return how many workers of a role the machines can hold in all at present."""
        ...

    def start(self, role: Role) -> Worker:
        """Start a worker; a `Ready` event follows, or `Lost`."""
        ...

    def assign(self, worker: Worker, task: Task) -> None:
        """Give a free worker a task; a `Finished` event follows, or `Lost`."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """Return the events so far, waiting for at most the given seconds; longer if a task runs inside this call."""
        ...

    def on_progress(self, listener: Listener) -> None:
        """Register `listener`, called inside `wait` with the progress of busy workers; several can be registered."""
        ...

    def stop_work(self, worker: Worker | None = None) -> None:
        """Make all running trajectories, or one worker's, publish a checkpoint and return.

        Only records the request, which takes effect at the next batch or the next `wait`: a signal handler may call it
        while `wait` runs.
        """
        ...

    def end(self, worker: Worker) -> None:
        """End a worker, with its task if it has one; no event follows."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...
