"""Publications beside the edit loop: their order, their faults, and when a batch waits for them."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_files import results_of

from sphere_core.foundation.storage import Storage
from workflows.replicas.publisher import Publisher
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import Done, ReplicaProgress, TrajectoryTask
from workflows.sweeps.expand import Sweep

LONGEST = 60.0


def test_they_run_in_order_and_are_done_at_the_end() -> None:
    done: list[int] = []
    with Publisher() as publisher:
        for number in range(20):
            publisher.submit(lambda number=number: done.append(number), 1.0)
    assert done == list(range(20))


def test_nobody_waits_while_there_is_room() -> None:
    gate, done = threading.Event(), []
    with Publisher(room=lambda: 10.0) as publisher:
        publisher.submit(lambda: done.append(gate.wait(LONGEST)), 5.0)
        publisher.submit(lambda: done.append(2), 5.0)
        # Both are under way and neither is done: the caller did not wait.
        assert done == []
        gate.set()
    assert done == [True, 2]


def test_without_room_the_earlier_one_is_waited_for_but_a_single_one_always_runs() -> None:
    done: list[int] = []
    with Publisher(room=lambda: 1.0) as publisher:
        publisher.submit(lambda: done.append(1), 5.0)
        publisher.submit(lambda: done.append(2), 5.0)
        assert done[:1] == [1]
    assert done == [1, 2]


@pytest.mark.parametrize("fault", [OSError("full"), KeyboardInterrupt()])
def test_after_a_fault_nothing_more_is_published_and_it_is_raised(fault: BaseException) -> None:
    done: list[int] = []

    def fail() -> None:
        raise fault

    def work() -> None:
        with Publisher() as publisher:
            publisher.submit(lambda: done.append(1), 1.0)
            publisher.submit(fail, 1.0)
            publisher.submit(lambda: done.append(3), 1.0)

    with pytest.raises(type(fault)):
        work()
    assert done == [1]


def test_an_error_of_the_loop_loses_no_publication(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def work(publish: Callable[[], None]) -> None:
        with Publisher() as publisher:
            publisher.submit(publish, 1.0)
            raise ArithmeticError("of the loop")

    with pytest.raises(ArithmeticError, match="of the loop"):
        work(lambda: done.append(1))
    assert done == [1]
    with pytest.raises(ArithmeticError, match="of the loop"):
        work(lambda: done.append(1 // 0))
    assert "ZeroDivisionError" in caplog.text


def test_a_checkpoint_is_written_while_the_next_batch_is_edited_and_reported_once_it_is_written(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "moments").symlink_to(undisturbed / "moments")
    plan, publish = sweep.plan.trajectories[0], Storage._publish
    edited, reports = threading.Event(), []

    def slow(storage: Storage, target: Path, *writing: Callable[..., object]) -> None:
        if target.parent.name == "000004":
            assert edited.wait(LONGEST), "the edit loop waits for its checkpoint"
        publish(storage, target, *writing)

    def listen(progress: ReplicaProgress) -> None:
        reports.append((progress.edits, progress.published))
        if progress.edits == 6:
            edited.set()

    monkeypatch.setattr(Storage, "_publish", slow)
    replica = ModelReplica(str(tmp_path), threads=1, device="cpu", listener=listen)
    outcome = replica.run(TrajectoryTask(plan, sweep.specs[plan.id], 1, None))
    assert outcome == Done((4, 6), False)
    assert (4, ()) in reports
    assert (6, ()) in reports
    found, expected = results_of(tmp_path), results_of(undisturbed)
    assert found == {name: data for name, data in expected.items() if f"trajectories/{plan.id}/" in name}
    assert found
