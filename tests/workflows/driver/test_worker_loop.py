"""What the loop tells of lost workers, and how an interrupt reaches a replica."""

from pathlib import Path

import pytest
from executors import Interfering
from local_runs import Quiet, run
from sweep_files import tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.driver.driver import Driver
from workflows.driver.executor import Event, Finished, Lost, Worker
from workflows.driver.retry_limits import MAX_LOSSES
from workflows.replicas.tasks import ReplicaProgress, ScoreTask, Task
from workflows.sweeps.expand import Sweep, load_sweep


def one_trajectory(folder: Path) -> Sweep:
    settings = tiny(seeds=[0], methods=["memit"], evaluators={"geometry": {}})
    return load_sweep(write_sweep(folder, settings))


class LosesScores(Interfering):
    """Its machines go with a score, `times` times: before the score is begun, or after the replica has spoken of it."""

    def __init__(self, root: Path, times: int, *, begun: bool) -> None:
        super().__init__(root)
        self.times = times
        self.begun = begun

    def before(self, worker: Worker, task: Task) -> Event | None:
        return None if self.begun else self.lose(worker, task)

    def after(self, event: Event) -> Event | None:
        is_score = self.begun and isinstance(event, Finished)
        return (self.lose(event.worker, event.task) if is_score else None) or event

    def lose(self, worker: Worker, task: Task) -> Event | None:
        if not isinstance(task, ScoreTask) or not self.times:
            return None
        self.times -= 1
        return Lost(worker, task, "out of reach", unreachable=True)


@pytest.mark.parametrize(("times", "begun", "failed"), [(MAX_LOSSES + 1, False, 0), (MAX_LOSSES, True, 1)])
def test_machines_that_go_before_a_score_has_begun_there_do_not_count_against_it(
    tmp_path: Path, times: int, begun: bool, failed: int
) -> None:
    executor = LosesScores(tmp_path / "root", times, begun=begun)
    result = run(one_trajectory(tmp_path), tmp_path / "root", executor=executor)
    assert [failure.error for failure in result.failures] == ["WorkerLost"] * failed
    assert executor.times == 0


def test_a_run_shows_how_far_the_step_under_way_is(tmp_path: Path) -> None:
    executor, sweep = Interfering(tmp_path / "root"), one_trajectory(tmp_path)
    within: dict[str, str] = {}

    def hear(worker: Worker, progress: ReplicaProgress) -> None:
        if progress.within is not None and progress.task is not None:
            within.setdefault(progress.task.partition("-")[0], str(progress.within))

    executor.on_progress(hear)
    assert Driver(sweep, executor, Storage(tmp_path / "root"), Quiet()).run().complete
    # How often depends on the machine; the first step of the run, a build of second moments, is always shown.
    assert within
    assert next(iter(within.values())).startswith("second moments ")


class Interrupted(Interfering):
    """Notes when it is asked to stop work."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = 0

    def stop_work(self, worker: Worker | None = None) -> None:
        self.asked += 1
        super().stop_work(worker)


def test_an_interrupt_reaches_a_replica_that_works_inside_wait(tmp_path: Path) -> None:
    """The driver asks the executor itself: nobody has to know which executor works in the driver's thread."""
    executor, sweep = Interrupted(tmp_path / "root"), one_trajectory(tmp_path)
    storage = Storage(tmp_path / "root")
    sweep_driver = Driver(sweep, executor, storage, Quiet())
    batches: list[int] = []

    def interrupt(worker: Worker, progress: ReplicaProgress) -> None:
        if progress.editing and progress.edits and progress.within is None:
            batches.append(progress.edits)
            sweep_driver.interrupt()

    executor.on_progress(interrupt)
    result = sweep_driver.run()
    assert (result.stopped, result.complete) == (True, False)
    # The next batch of six edits was its last.
    assert batches == [2, 4]
    assert executor.asked
    assert run(sweep, tmp_path / "root").complete
