"""`python -m benchmarks.scheduling`: what the driver, the backlog and Ray cost beside the work itself.

Two thousand trajectories of no work on eight real Ray actors, through the same driver, backlog and executor as a sweep:
seconds per trajectory, and how the driver's memory grows. Then sleeping work on one and on eight: how near to eight
times as fast.
"""

import gc
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import typer
import yaml
from rich.console import Console

from benchmarks.alone import resident
from benchmarks.many_trajectories import many_settings
from benchmarks.rows import Row, table
from sphere_core.foundation.storage import Storage
from workflows.cluster.ray_executor import RayExecutor
from workflows.driver.display import View
from workflows.driver.driver import Driver
from workflows.driver.executor import Event, Worker
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import Done, Outcome, Task, TrajectoryTask
from workflows.sweeps.expand import Sweep, load_sweep
from workflows.sweeps.resources import Resources

__all__ = ["Sleeping", "main", "measure", "sleeping_sweep"]

SECONDS_A_TASK = 2.0
_MB = 1e6


class Sleeping(ModelReplica):
    """Sleeps instead of editing, for as many seconds as the moments file of its task says."""

    def run(self, task: Task) -> Outcome:
        """Sleep, and say that all is done."""
        if not isinstance(task, TrajectoryTask):
            raise TypeError(f"nothing but trajectories is scheduled here, not {task.name}")
        time.sleep(float(task.moments_file or 0))
        return Done(task.plan.wanted)


class _Silent:
    def update(self, view: View) -> None:
        """Show nothing."""


def sleeping_sweep(folder: Path, count: int) -> Sweep:
    """Return a sweep of `count` trajectories without second moments or scores."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(many_settings(count)), encoding="utf-8")
    sweep = load_sweep(path)
    plain = [plan.model_copy(update={"moments": None, "evaluations": ()}) for plan in sweep.plan.trajectories[:count]]
    plan = sweep.plan.model_copy(update={"trajectories": tuple(plain), "bases": (), "recipes": ()})
    return replace(sweep, plan=plan)


class _Noted(RayExecutor):
    """Has its workers begin together; notes the size of the driver just before, and when each task was given."""

    def __init__(self, root: Path, replicas: int) -> None:
        resources = Resources.model_validate({"max_replicas": replicas, "evaluator": {"replicas": 0}})
        super().__init__(str(root), resources, address=None, num_cpus=8, replica="benchmarks.scheduling:Sleeping")
        self.given: list[float] = []
        self.size_before = 0
        self._replicas = replicas
        self._ready: list[Event] = []

    def wait(self, seconds: float) -> list[Event]:
        """Say that workers are ready when all of them are: actors of Ray take seconds each to start."""
        events = super().wait(seconds)
        if len(self._ready) == self._replicas:
            return events
        self._ready += events
        if len(self._ready) < self._replicas:
            return []
        self.size_before = _size()
        return self._ready

    def assign(self, worker: Worker, task: Task) -> None:
        """Give a free worker a task."""
        self.given.append(time.perf_counter())
        super().assign(worker, task)

    def steady(self) -> tuple[int, float]:
        """Return how many tasks were given after the first of each worker, and the seconds from then to the last."""
        return len(self.given) - self._replicas, self.given[-1] - self.given[self._replicas - 1]


def _run(folder: Path, *, count: int, replicas: int, seconds: float) -> tuple[int, float, float]:
    """Work through sleeping trajectories; return the steady part in tasks and seconds, and MB the driver grew by."""
    folder.mkdir()
    storage = Storage(folder / "root")
    sweep = replace(sleeping_sweep(folder, count), moments_file=str(seconds))
    with _Noted(folder / "root", replicas) as executor:
        Driver(sweep, executor, storage, _Silent()).run()
        tasks, took = executor.steady()
        return tasks, took, (_size() - executor.size_before) / _MB


def _size() -> int:
    """Return the resident bytes of this process without what only waits to be collected."""
    gc.collect()
    return resident("VmRSS")


def measure(folder: Path, *, count: int = 2000, replicas: int = 8) -> list[Row]:
    """Return the rows of this benchmark."""
    tasks, took, grown = _run(folder / "empty", count=count, replicas=replicas, seconds=0.0)
    rates = {}
    for number in (1, replicas):
        done, seconds = _run(folder / f"{number}", count=6 * number + number, replicas=number, seconds=SECONDS_A_TASK)[
            :2
        ]
        rates[number] = done / seconds
    return [
        Row("overhead a trajectory", f"{tasks} empty trajectories, {replicas} replicas", took / tasks, "s", 0.1),
        Row("driver memory, growth", f"over {tasks} trajectories", grown, "MB", 50),
        Row(
            f"{replicas} replicas over 1",
            f"sleeping {SECONDS_A_TASK:g} s a trajectory; ideal {replicas} x",
            rates[replicas] / rates[1],
            "x",
            0.95 * replicas,
        ),
        Row("of ideal", f"{replicas} replicas", 100 * rates[replicas] * SECONDS_A_TASK / replicas, "%"),
    ]


def main() -> None:
    """Measure on a Ray of this machine; exits 1 where a limit is missed."""
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    Console(width=140).print(table(rows, title="scheduling"))
    if any(row.met is False for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
