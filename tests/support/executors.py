"""A local executor whose workers and tasks meet what a test decides."""

from pathlib import Path

from workflows.driver.executor import Event, Role, Worker
from workflows.driver.local_executor import LocalExecutor
from workflows.replicas.tasks import Task

__all__ = ["Interfering"]


class Interfering(LocalExecutor):
    """Asks, before a task is done, what becomes of it instead, and after every event what is told in its place.

    `held` are tasks that are assigned and not begun, done in turn; `given`, `started` and `ended` say what it was told.
    """

    def __init__(self, root: Path | str) -> None:
        super().__init__(str(root), threads=1, device="cpu")
        self.held: list[tuple[Worker, Task]] = []
        self.given: list[str] = []
        self.started: list[Worker] = []
        self.ended: list[Worker] = []

    def before(self, worker: Worker, task: Task) -> Event | None:
        """What becomes of a task instead of being done; None: it is done."""
        return None

    def after(self, event: Event) -> Event | None:
        """What is told in place of an event; None: nothing."""
        return event

    def start(self, role: Role) -> Worker:
        self.started.append(super().start(role))
        return self.started[-1]

    def assign(self, worker: Worker, task: Task) -> None:
        self.given.append(task.name)
        self.held.append((worker, task))

    def wait(self, seconds: float) -> list[Event]:
        if self.held:
            worker, task = self.held.pop(0)
            instead = self.before(worker, task)
            if instead is not None:
                return [instead]
            super().assign(worker, task)
        events = [self.after(event) for event in super().wait(seconds)]
        return [event for event in events if event is not None]

    def end(self, worker: Worker) -> None:
        self.ended.append(worker)
        super().end(worker)
