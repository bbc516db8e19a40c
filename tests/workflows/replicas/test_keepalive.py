"""What is said of a trajectory while a batch takes its time."""

import json
import threading
import time
from pathlib import Path

import pytest
from waiting import wait_until

from sphere_core.foundation.storage import Storage
from workflows.replicas.keepalive import KeepAlive
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import Done, ReplicaProgress, Superseded, TrajectoryTask
from workflows.store.layout import progress_path
from workflows.store.lease import take_lease
from workflows.store.records import Lease
from workflows.sweeps.expand import Sweep


def test_a_keepalive_reports_while_it_lasts_and_never_after() -> None:
    beats: list[float] = []
    with KeepAlive(lambda: beats.append(time.monotonic()), seconds=0.01):
        wait_until(lambda: len(beats) >= 3)
    counted = len(beats)
    time.sleep(0.05)
    assert len(beats) == counted


def test_what_a_report_raises_ends_the_keepalive_and_nothing_else() -> None:
    beats: list[int] = []

    def fail() -> None:
        beats.append(1)
        raise OSError("gone")

    with KeepAlive(fail, seconds=0.01):
        wait_until(lambda: beats)
        time.sleep(0.05)
    assert beats == [1]


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_long_batch_is_reported_until_another_attempt_takes_over(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overtaken: bool
) -> None:
    monkeypatch.setattr(KeepAlive.__init__, "__kwdefaults__", {"seconds": 0.05})
    (tmp_path / "moments").symlink_to(undisturbed / "moments")
    plan, storage = sweep.plan.trajectories[0], Storage(tmp_path)
    seen: set[float] = set()
    dwelt = threading.Event()

    def dwell(progress: ReplicaProgress) -> None:
        if progress.edits != 2 or dwelt.is_set():
            return
        dwelt.set()
        if overtaken:
            take_lease(storage, plan.id, Lease(attempt=2, owner="elsewhere:1"))
        until = time.monotonic() + 0.5
        while time.monotonic() < until if overtaken else len(seen) < 4:
            seen.add(json.loads(storage.read_bytes(progress_path(plan.id)))["at"])
            time.sleep(0.01)

    outcome = ModelReplica(str(tmp_path), threads=1, device="cpu", listener=dwell).run(
        TrajectoryTask(plan, sweep.specs[plan.id], 1, None)
    )
    assert isinstance(outcome, Superseded if overtaken else Done)
    # Dated again and again; once another attempt is there, by that one only.
    assert not overtaken or len(seen) <= 2


def test_an_error_of_an_attempt_that_was_overtaken_is_not_the_trajectory_s(sweep: Sweep, tmp_path: Path) -> None:
    """A process that was stopped wakes up among files that a later attempt has changed; what it raises says nothing."""
    plan, storage = sweep.plan.trajectories[0], Storage(tmp_path)

    def overtake(progress: ReplicaProgress) -> None:
        if progress.task is not None:
            take_lease(storage, plan.id, Lease(attempt=2, owner="elsewhere:1"))
            raise ValueError("a file has gone")

    replica = ModelReplica(str(tmp_path), threads=1, device="cpu")
    task = TrajectoryTask(plan, sweep.specs[plan.id], 1, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replica, "_do", lambda task: overtake(ReplicaProgress.at(task)))
        assert replica.run(task) == Superseded("attempt 2 by elsewhere:1")
    assert not storage.exists(task.error_path)
