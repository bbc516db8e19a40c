"""When a worker whose process lives counts as hung, in the time of a driver's looks."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from executors import Interfering
from local_runs import Quiet
from store_parts import QUALITY, trajectory
from sweep_files import tiny, write_sweep

from sphere_core.foundation.storage import Storage
from sphere_core.foundation.work_progress import Position
from workflows.driver import driver as drivers
from workflows.driver.driver import Driver
from workflows.driver.executor import Event, Worker
from workflows.driver.retry_limits import MAX_LOSSES
from workflows.driver.stalls import StallWatch
from workflows.replicas.tasks import ReplicaProgress, ScoreTask, Task, TrajectoryTask
from workflows.sweeps.expand import Sweep, load_sweep
from workflows.sweeps.resources import StallLimits

LIMITS = StallLimits(times=10, at_least=60, unmeasured=1000)
WORKER, OTHER = Worker(1, "replica"), Worker(2, "replica")


class Watched:
    """A watch in a time of its own, of one trajectory's worker."""

    def __init__(self, sweep: Sweep, limits: StallLimits | None = LIMITS) -> None:
        self.time = 0.0
        self.watch = StallWatch(limits, clock=lambda: self.time)
        spec = next(iter(sweep.specs.values()))
        self.task = TrajectoryTask(trajectory("memit", 0), spec, 1, None)
        self.score = ScoreTask(trajectory("memit", 0), spec, 4, QUALITY, {})

    def passes(self, seconds: float) -> list[Worker]:
        """Let time pass, with a look every second; return whoever was given up meanwhile, each once."""
        found: list[Worker] = []
        for _ in range(int(seconds)):
            self.time += 1
            found += [stall.worker for stall in self.watch.look() if stall.worker not in found]
        return found

    def says(self, edits: int, of: int = 8, signs: int = 0, **more: object) -> None:
        progress = replace(ReplicaProgress.at(self.task, edits, of), signs=signs, **cast(dict[str, str], more))
        self.watch.heard(WORKER, progress)

    def after_a_batch(self, seconds: float) -> None:
        """Load the model, and edit one batch in so many seconds."""
        self.watch.begin(WORKER, self.task)
        self.says(0, of=0)
        self.says(0)
        assert self.passes(seconds) == []
        self.says(2)


@pytest.fixture
def watched(sweep: Sweep) -> Watched:
    return Watched(sweep)


@pytest.mark.parametrize(("batch", "limit"), [(3, 60), (20, 200)])
def test_a_batch_without_a_sign_for_a_multiple_of_the_usual_time_is_given_up(
    watched: Watched, batch: int, limit: int
) -> None:
    watched.after_a_batch(batch)
    watched.says(2, signs=1, within=Position("targets", 3, 32, "requests"))
    assert watched.passes(limit) == []
    watched.time += 1
    (stall,) = watched.watch.look()
    assert (stall.worker, stall.task) == (WORKER, watched.task)
    assert stall.reason.startswith(f"no progress for {'1 min 01 s' if limit == 60 else '3 min 21 s'} at targets 3/32")


def test_any_sign_of_life_starts_the_count_again(watched: Watched) -> None:
    watched.after_a_batch(3)
    for signs in range(1, 20):
        watched.says(2, signs=signs)
        assert watched.passes(50) == []
    # What is said again is no sign: a process that only answers may hang.
    watched.says(2, signs=19)
    assert watched.passes(61 - 50) == [WORKER]


def test_work_that_was_never_measured_has_longer_and_so_has_a_model_that_is_loaded(watched: Watched) -> None:
    watched.watch.begin(WORKER, watched.task)
    watched.says(0)
    assert watched.passes(1000) == []
    assert watched.passes(1) == [WORKER]
    watched.after_a_batch(3)
    # Another worker loads its model: what is known of batches says nothing about that.
    watched.watch.begin(OTHER, watched.task)
    assert OTHER not in watched.passes(1000)
    assert OTHER in watched.passes(1)


def test_a_score_is_measured_whole(watched: Watched) -> None:
    watched.watch.begin(OTHER, watched.score)
    watched.passes(30)
    watched.watch.end(OTHER, finished=True)
    watched.watch.begin(WORKER, watched.score)
    assert watched.passes(300) == []
    assert watched.passes(1) == [WORKER]


def test_a_worker_that_waits_for_another_is_not_given_up(watched: Watched) -> None:
    watched.after_a_batch(3)
    watched.says(2, waits_for="second moments that host:1 builds")
    assert watched.passes(5000) == []


def test_time_in_which_the_driver_was_suspended_does_not_count(watched: Watched) -> None:
    watched.after_a_batch(3)
    watched.time += 100_000
    assert watched.watch.look() == []


@pytest.mark.parametrize("limits", [None, StallLimits(unmeasured=None)])
def test_it_can_be_turned_off(sweep: Sweep, limits: StallLimits | None) -> None:
    watched = Watched(sweep, limits)
    watched.watch.begin(WORKER, watched.task)
    watched.says(0)
    assert watched.passes(50_000) == []


class Hanging(Interfering):
    """Its trajectories never return, and never say a thing."""

    def before(self, worker: Worker, task: Task) -> Event | None:
        return None

    def wait(self, seconds: float) -> list[Event]:
        self.held = [(worker, task) for worker, task in self.held if not isinstance(task, TrajectoryTask)]
        return super().wait(0.0)


def test_a_hung_trajectory_counts_as_lost_with_its_worker_and_fails_after_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a watch finds is a loss like any other: a new worker each time, then a row among the failures."""
    settings = tiny(seeds=[0], methods=["memit"], evaluators={"geometry": {}})
    sweep = load_sweep(write_sweep(tmp_path, settings))
    now = [0.0]

    def clock() -> float:
        now[0] += 5.0
        return now[0]

    monkeypatch.setattr(drivers, "StallWatch", lambda limits: StallWatch(LIMITS, clock=clock))
    executor = Hanging(tmp_path / "root")
    result = Driver(sweep, executor, Storage(tmp_path / "root"), Quiet()).run()
    (failure,) = result.failures
    assert (failure.error, failure.task) == ("WorkerLost", f"trajectory-{sweep.plan.trajectories[0].id}")
    assert "no progress for 16 min" in failure.message
    assert len([name for name in executor.given if name.startswith("trajectory-")]) == MAX_LOSSES
    assert len(executor.ended) == MAX_LOSSES
