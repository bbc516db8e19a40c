"""Workers that are lost with what they did: what is done again, what counts against whom, who takes their place."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from executors import Interfering
from local_runs import run
from sweep_files import results_of, tiny, write_sweep

from workflows.driver import driver
from workflows.driver.executor import Event, Finished, Listener, Lost, Ready, Role, Worker
from workflows.driver.retry_limits import MAX_LOSSES
from workflows.driver.workers import Workers
from workflows.replicas.tasks import ScoreTask, Task, TrajectoryTask
from workflows.sweeps.expand import Sweep, load_sweep


class LosesWorkers(Interfering):
    """Loses its worker at the tasks given, after the work is half done, as a killed process would."""

    def __init__(self, root: Path, losses: Iterator[bool]) -> None:
        super().__init__(root)
        self.losses = losses

    def after(self, event: Event) -> Event | None:
        if isinstance(event, Finished) and next(self.losses, False):
            return Lost(event.worker, event.task, "killed")
        return event


def test_a_lost_worker_is_replaced_and_its_task_done_again(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> None:
    losses = iter([True, False, True, True, False, False, True])
    assert run(sweep, tmp_path, executor=LosesWorkers(tmp_path, losses)).complete
    assert results_of(tmp_path) == results_of(undisturbed)


class Unheard(Interfering):
    """What its replica says reaches nobody: polls that are never answered."""

    def on_progress(self, listener: Listener) -> None:
        pass


class LosesWorkersUnheard(LosesWorkers, Unheard):
    """Loses workers of which nothing was heard."""


def test_checkpoints_that_a_lost_worker_did_not_speak_of_count(tmp_path: Path) -> None:
    root = tmp_path / "root"
    # Each has published all there is, the first one something new.
    losses = iter([False, False, *[True] * MAX_LOSSES])
    executor = LosesWorkersUnheard(root, losses)
    assert run(one_trajectory(tmp_path), root, executor=executor).complete
    assert next(losses, None) is None


class LosesAndStops(Unheard):
    """Loses trajectories before anything is done, or stops them after a batch, as it is told."""

    def __init__(self, root: Path, fates: list[str]) -> None:
        super().__init__(root)
        self.fates = fates

    def before(self, worker: Worker, task: Task) -> Event | None:
        if isinstance(task, TrajectoryTask) and self.fates:
            if self.fates.pop(0) == "lost":
                return Lost(worker, task, "killed")
            self.stop_work()
        return None


def test_losses_before_a_stop_do_not_count_together_with_those_after(tmp_path: Path) -> None:
    root, fates = tmp_path / "root", ["lost"] * (MAX_LOSSES - 1)
    executor = LosesAndStops(root, [*fates, "stopped", *fates])
    assert run(one_trajectory(tmp_path), root, executor=executor).complete
    assert not executor.fates


class WithEvaluator(Interfering):
    """Has a place for an evaluator beside the replica, in this process, and loses the first trajectory."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lost = 0

    def most(self, role: Role) -> int:
        return 1

    def before(self, worker: Worker, task: Task) -> Event | None:
        if not self.loses(task):
            return None
        self.lost += 1
        return Lost(worker, task, "killed")

    def loses(self, task: Task) -> bool:
        return isinstance(task, TrajectoryTask) and not self.lost


def one_trajectory(folder: Path, **changes: object) -> Sweep:
    settings = tiny(**{"seeds": [0], "methods": ["memit"], "evaluators": {"geometry": {}}, **changes})
    return load_sweep(write_sweep(folder, settings))


def test_an_evaluator_that_idles_is_no_reason_to_do_without_a_replica(tmp_path: Path) -> None:
    executor = WithEvaluator(tmp_path / "root")
    assert run(one_trajectory(tmp_path), tmp_path / "root", executor=executor, evaluators=1).complete
    assert executor.lost == 1


class LosesNothing(WithEvaluator):
    """Has a place for an evaluator too."""

    def loses(self, task: Task) -> bool:
        return False


def test_a_replica_without_work_is_ended_and_evaluators_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "Workers", partial(Workers, grow_seconds=0.0))
    one = one_trajectory(tmp_path, evaluators={"geometry": {}, "edit_quality": {}})
    patient = LosesNothing(tmp_path / "patient")
    assert run(one, tmp_path / "patient", executor=patient, evaluators=1).complete
    assert patient.ended == []
    monkeypatch.setattr(driver, "Workers", partial(Workers, grow_seconds=0.0, idle_seconds=-1.0))
    hasty = LosesNothing(tmp_path / "hasty")
    assert run(one, tmp_path / "hasty", executor=hasty, evaluators=1).complete
    assert {worker.role for worker in hasty.ended} == {"replica"}
    assert results_of(tmp_path / "hasty") == results_of(tmp_path / "patient")


class WithoutPlace(WithEvaluator):
    """Its evaluator never finds a place, and its replica is lost with the very last score."""

    def after(self, event: Event) -> Event | None:
        return None if isinstance(event, Ready) and event.worker.role == "evaluator" else event

    def loses(self, task: Task) -> bool:
        trajectories = sum(name.startswith("trajectory-") for name in self.given)
        return isinstance(task, ScoreTask) and task.edits == 6 and trajectories == 2 and not self.lost


def test_where_no_evaluator_finds_a_place_replicas_score_as_they_go(tmp_path: Path) -> None:
    two = one_trajectory(tmp_path, seeds=[0, 1])
    executor = WithoutPlace(tmp_path / "root")
    assert run(two, tmp_path / "root", executor=executor, evaluators=1).complete
    assert executor.lost == 1
    kinds = [name.partition("-")[0] for name in executor.given]
    first, second = (place for place, kind in enumerate(kinds) if kind == "trajectory")
    # The unedited model first; then every checkpoint of a trajectory before the next trajectory.
    assert kinds[:first].count("geometry") == 1
    assert kinds[first:second].count("geometry") >= 2


class LostAfterItsVerdict(LosesNothing):
    """Loses its replica at the end of a trajectory, once the first checkpoint has been scored."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.untold: Finished | None = None

    def wait(self, seconds: float) -> list[Event]:
        events = super().wait(seconds)
        for event in list(events):
            if isinstance(event, Finished) and isinstance(event.task, TrajectoryTask) and not self.lost:
                self.untold = event
                events.remove(event)
            if isinstance(event, Finished) and isinstance(event.task, ScoreTask) and event.task.edits and self.untold:
                events.append(Lost(self.untold.worker, self.untold.task, "killed"))
                self.untold, self.lost = None, 1
        return events


def test_a_trajectory_that_was_stopped_is_not_taken_up_again_when_its_replica_is_lost(tmp_path: Path) -> None:
    strict = one_trajectory(tmp_path / "strict", watchdog={"he_drift": 1e-9})
    executor = LostAfterItsVerdict(tmp_path / "root")
    assert run(strict, tmp_path / "root", executor=executor, evaluators=1).complete
    assert executor.lost == 1
    assert sum(name.startswith("trajectory-") for name in executor.given) == 1
    free = one_trajectory(tmp_path / "free")
    assert run(free, tmp_path / "quiet").complete
    expected = {name: data for name, data in results_of(tmp_path / "quiet").items() if "000006" not in name}
    assert results_of(tmp_path / "root") == expected


class NeverEdits(Interfering):
    """Loses its worker whenever a given trajectory starts, before it does anything."""

    def __init__(self, root: Path, trajectory_id: str) -> None:
        super().__init__(root)
        self.trajectory_id = trajectory_id
        self.lost = 0

    def before(self, worker: Worker, task: Task) -> Event | None:
        if not isinstance(task, TrajectoryTask) or task.plan.id != self.trajectory_id:
            return None
        self.lost += 1
        return Lost(worker, task, "out of memory")


def test_a_trajectory_that_kills_its_workers_fails_and_the_others_finish(
    sweep: Sweep, undisturbed: Path, tmp_path: Path
) -> None:
    victim, other = sweep.plan.trajectories
    executor = NeverEdits(tmp_path, victim.id)
    result = run(sweep, tmp_path, executor=executor)
    assert executor.lost == MAX_LOSSES
    assert not result.complete
    assert [(failure.task, failure.error) for failure in result.failures] == [(f"trajectory-{victim.id}", "WorkerLost")]
    expected = {name: data for name, data in results_of(undisturbed).items() if victim.id not in name}
    assert results_of(tmp_path) == expected
    assert any(other.id in name for name in expected)


def without_contact(events: list[Event]) -> list[Event]:
    """What was lost is now lost because its machine is out of reach."""
    return [replace(event, unreachable=True) if isinstance(event, Lost) else event for event in events]


class OutOfReach(NeverEdits):
    """Its workers are out of reach, one after the other, before they have begun with a given trajectory."""

    def wait(self, seconds: float) -> list[Event]:
        if self.lost == 2 * MAX_LOSSES:
            self.trajectory_id = ""
        return without_contact(super().wait(seconds))


def test_machines_that_go_before_a_trajectory_has_begun_there_do_not_count_against_it(
    sweep: Sweep, undisturbed: Path, tmp_path: Path
) -> None:
    executor = OutOfReach(tmp_path, sweep.plan.trajectories[0].id)
    assert run(sweep, tmp_path, executor=executor).complete
    assert executor.lost == 2 * MAX_LOSSES
    assert results_of(tmp_path) == results_of(undisturbed)


class OutOfReachInTheMiddle(LosesWorkers):
    """Loses contact with workers after they have begun."""

    def wait(self, seconds: float) -> list[Event]:
        return without_contact(super().wait(seconds))


def test_machines_that_go_with_a_trajectory_on_them_do_count(sweep: Sweep, tmp_path: Path) -> None:
    executor = OutOfReachInTheMiddle(tmp_path, iter([False, *[True] * MAX_LOSSES]))
    failures = run(sweep, tmp_path, executor=executor).failures
    assert [failure.error for failure in failures] == ["WorkerLost"]
