"""The executor without Ray: one replica in this process."""

import time
from functools import partial

from workflows.driver.executor import Event, ExecutorError, Finished, Listener, Lost, Ready, Role, Worker
from workflows.replicas.start import start_replica
from workflows.replicas.tasks import BrokenReplicaError, ReplicaProgress, Task

__all__ = ["LocalExecutor"]


class LocalExecutor:
    """One replica in this process; a task runs inside `wait`. For tests and machines without Ray."""

    def __init__(self, root: str, *, threads: int, device: str) -> None:
        self._listeners: list[Listener] = []
        self._make = partial(
            start_replica, root, threads=threads, device=device, listener=self._hear, on_sign=self._hear
        )
        self._replica = self._make()
        self._events: list[Event] = []
        self._assigned: tuple[Worker, Task] | None = None
        self._at_work: Worker | None = None
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
        """Run the assigned task to its end; without one, sleep."""
        if self._assigned is not None:
            (worker, task), self._assigned = self._assigned, None
            self._events.append(self._run(worker, task))
        elif not self._events:
            time.sleep(seconds)
        events, self._events = self._events, []
        return events

    def on_progress(self, listener: Listener) -> None:
        """Register `listener`, called while a task runs inside `wait`."""
        self._listeners.append(listener)

    def _hear(self, progress: ReplicaProgress) -> None:
        if self._at_work is not None:
            for listener in self._listeners:
                listener(self._at_work, progress)

    def _run(self, worker: Worker, task: Task) -> Event:
        self._at_work = worker
        try:
            return Finished(worker, task, self._replica.run(task))
        except KeyboardInterrupt:
            # Returned by the next `wait`: the task is over.
            self._events.append(Lost(worker, task, "interrupted"))
            raise
        except BrokenReplicaError as error:
            remedy = "run the same command again: a new process resumes from the last checkpoints"
            raise ExecutorError(f"the accelerator has failed: {error}", remedy) from error
        finally:
            self._at_work = None

    def stop_work(self, worker: Worker | None = None) -> None:
        """Make the replica stop after the current batch."""
        self._replica.stop()

    def end(self, worker: Worker) -> None:
        """Replace the replica by a new one."""
        self._replica = self._make()

    def close(self) -> None:
        """Nothing to end."""
