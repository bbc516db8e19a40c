"""What dies, and what happens then: one test a way to die. Ends of processes on Ray are in test_sweep_ray.py."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from executors import Interfering
from local_runs import run
from sweep_files import results_of, tiny, write_sweep

from sphere_core import preparation
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.process_faults import is_broken_accelerator, is_out_of_memory
from sphere_core.foundation.storage import Storage
from workflows.driver.executor import Event, ExecutorError, Lost, Ready, Role, Worker
from workflows.driver.retry_limits import MAX_EXHAUSTED, MAX_FAILED_STARTS
from workflows.replicas.tasks import BrokenReplicaError, Task, TrajectoryTask
from workflows.store.layout import checkpoints_folder
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep, load_sweep

ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", RuntimeError)


def fails_at(monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], times: int) -> list[int]:
    """Let the first `times` trajectories that begin raise an error after a batch; return the list of their ends."""
    begin, ends = preparation.run_trajectory, []

    def begin_and_fail(*arguments, **options):
        for checkpoint in begin(*arguments, **options):
            yield checkpoint
            if len(ends) < times:
                ends.append(checkpoint.edits)
                raise error()

    monkeypatch.setattr(preparation, "run_trajectory", begin_and_fail)
    return ends


# --- the accelerator fails, memory runs out


@pytest.mark.parametrize(
    ("error", "broken", "exhausted"),
    [
        (ACCELERATOR_ERROR("CUDA error: an illegal memory access was encountered"), True, False),
        (RuntimeError("CUDA error: device-side assert triggered"), True, False),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"), True, False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), False, True),
        (MemoryError(), False, True),
        (ValueError("CUDA error: a text that only looks like one"), False, False),
    ],
)
def test_errors_of_the_process_are_told_from_errors_of_the_work(
    error: Exception, broken: bool, exhausted: bool
) -> None:
    assert (is_broken_accelerator(error), is_out_of_memory(error)) == (broken, exhausted)
    wrapped = InputError("what")
    wrapped.__cause__ = error
    assert (is_broken_accelerator(wrapped), is_out_of_memory(wrapped)) == (broken, exhausted)


def test_a_failed_accelerator_leaves_nothing_and_ends_the_replica(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(monkeypatch, lambda: ACCELERATOR_ERROR("CUDA error: unspecified launch failure"), 1)
    with pytest.raises(ExecutorError, match="unspecified launch failure") as caught:
        run(sweep, tmp_path)
    assert isinstance(caught.value.__cause__, BrokenReplicaError)
    assert not list(tmp_path.glob("trajectories/*/error.json"))
    monkeypatch.undo()
    assert run(sweep, tmp_path).complete
    assert results_of(tmp_path) == results_of(undisturbed)


def test_out_of_memory_once_is_tried_again(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = fails_at(monkeypatch, lambda: torch.OutOfMemoryError("CUDA out of memory"), 1)
    assert run(sweep, tmp_path).complete
    assert ends == [2]
    assert results_of(tmp_path) == results_of(undisturbed)


def test_out_of_memory_twice_is_a_failure_with_its_reason_and_the_others_finish(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(monkeypatch, lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), MAX_EXHAUSTED)
    result = run(sweep, tmp_path)
    assert [failure.error for failure in result.failures] == ["OutOfMemory"]
    assert "ran out of memory 2 times" in result.failures[0].message
    assert result.failures[0].edits == 2
    assert "Tried to allocate 9 GiB" in result.failures[0].message
    states = [found.state for found in derive_state(Storage(tmp_path), sweep.plan).trajectories]
    assert states == ["failed", "done"]


class Exhausted(Interfering):
    """Loses its worker to the machine's memory watch, so often."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self.left = times

    def before(self, worker: Worker, task: Task) -> Event | None:
        if not isinstance(task, TrajectoryTask) or not self.left:
            return None
        self.left -= 1
        return Lost(worker, task, "killed by the memory monitor", out_of_memory=True)


@pytest.mark.parametrize(("times", "failed"), [(1, 0), (2, 1)])
def test_a_worker_killed_for_its_memory_counts_as_out_of_memory(
    sweep: Sweep, tmp_path: Path, times: int, failed: int
) -> None:
    result = run(sweep, tmp_path, executor=Exhausted(tmp_path, times))
    assert [failure.error for failure in result.failures] == ["OutOfMemory"] * failed


class FailsToStart(Interfering):
    """Its workers end before they are ready, so often."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self.left = times

    def after(self, event: Event) -> Event | None:
        if not isinstance(event, Ready) or not self.left:
            return event
        self.left -= 1
        return Lost(event.worker, None, "ImportError: no such module")


def test_workers_that_cannot_start_end_the_run_with_the_reason(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"5 workers in a row could not start.*ImportError: no such module"):
        run(sweep, tmp_path, executor=FailsToStart(tmp_path, MAX_FAILED_STARTS))


def test_a_few_workers_that_cannot_start_do_no_harm(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> None:
    assert run(sweep, tmp_path, executor=FailsToStart(tmp_path, MAX_FAILED_STARTS - 1)).complete
    assert results_of(tmp_path) == results_of(undisturbed)


class OneOfThree(Interfering):
    """Has room for three workers, of which only the first ever starts; its trajectories begin when many have not."""

    def most(self, role: Role) -> int:
        return 3 if role == "replica" else 0

    def after(self, event: Event) -> Event | None:
        if isinstance(event, Ready) and event.worker != self.started[0]:
            return Lost(event.worker, None, "ImportError: no such module")
        return event

    def wait(self, seconds: float) -> list[Event]:
        if len(self.started) > MAX_FAILED_STARTS or not any(isinstance(task, TrajectoryTask) for _, task in self.held):
            return super().wait(seconds)
        held, self.held = self.held, []
        events = super().wait(seconds)
        self.held = held
        return events


def test_workers_that_cannot_start_do_not_end_the_work_of_one_that_could(
    sweep: Sweep, undisturbed: Path, tmp_path: Path
) -> None:
    executor = OneOfThree(tmp_path)
    assert run(sweep, tmp_path, executor=executor).complete
    assert len(executor.started) > MAX_FAILED_STARTS
    assert results_of(tmp_path) == results_of(undisturbed)


# --- an evaluator dies between two files


def test_what_a_killed_evaluator_left_without_rows_is_written_anew(tmp_path: Path) -> None:
    settings = tiny(seeds=[0], methods=["memit"], evaluators={"edit_quality": {}})
    sweep, root = load_sweep(write_sweep(tmp_path, settings)), tmp_path / "root"
    assert run(sweep, root).complete
    undisturbed = results_of(root)
    details, *_ = sorted(root.glob("details/*/*.parquet"))
    for rows in root.glob(f"rows/*/{details.name}"):
        rows.unlink()
    # Another kind of machine may have come to other numbers.
    table = pq.read_table(details)
    pq.write_table(table.slice(1), details)
    assert results_of(root) != undisturbed
    assert run(sweep, root).complete
    assert results_of(root) == undisturbed


# --- a checkpoint is damaged


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("weights.safetensors", cut),
        ("state.safetensors", Path.unlink),
        ("manifest.json", Path.unlink),
        ("manifest.json", cut),
        ("manifest.json", lambda path: path.write_bytes(b"\xff\xfe")),
        ("manifest.json", lambda path: path.write_text("{}")),
    ],
    ids=["half weights", "no state", "no manifest", "half manifest", "no text", "empty manifest"],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(undisturbed, root)
    plan = sweep.plan.trajectories[0]
    folder = root / checkpoints_folder(plan.id)
    damage(folder / "000006" / name)
    for rows in root.glob(f"rows/*/{plan.id}-000006-*"):
        rows.unlink()
    seen: list[int] = []
    assert run(sweep, root, on_progress=lambda p: seen.append(p.edits) if p.of == 6 else None).complete
    assert seen[0] == 4
    assert results_of(root) == results_of(undisturbed)
