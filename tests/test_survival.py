"""What dies, and what happens then: one test a way to die. Ends of processes on Ray are in test_sweep_ray.py."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from local_runs import FaultyFiles, disk_full, run
from sweep_files import results_of, tiny, write_sweep

from sphere_core.checkpoints import checkpoints_in
from sphere_core.errors import InputError
from sphere_core.storage import Storage
from workflows import editing
from workflows.blame import MAX_EXHAUSTED, MAX_STILLBORN
from workflows.cli import main
from workflows.driver_lock import DriverLock
from workflows.executor import Event, ExecutorError, Finished, LocalExecutor, Lost, Role, Worker
from workflows.expand import Sweep, load_sweep
from workflows.layout import checkpoints_folder
from workflows.lease import Lease, take_lease
from workflows.process_faults import BrokenReplicaError, is_broken_accelerator, is_out_of_memory
from workflows.replica import ModelReplica
from workflows.state import derive_state
from workflows.tasks import Done, StorageFailed, TrajectoryTask

REPOSITORY = Path(__file__).resolve().parent.parent
ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", RuntimeError)


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(
        tmp_path_factory.mktemp("spec"), tiny(seeds=[0], methods=["memit", "memit+rect"], evaluators={"geometry": {}})
    )


@pytest.fixture(scope="module")
def sweep(sweep_file: Path) -> Sweep:
    return load_sweep(sweep_file)


@pytest.fixture(scope="module")
def undisturbed(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    assert run(sweep, root).complete
    return root


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries that a test can wait for."""
    monkeypatch.setattr(Storage.__init__, "__kwdefaults__", {"patience": (0.001, 0.001, 0.001)})


@pytest.fixture
def faulty() -> Iterator[str]:
    """The root of a storage without faults so far."""
    FaultyFiles.store.clear()
    yield "faulty://root"
    FaultyFiles.fault = staticmethod(lambda _: None)


def fails_at(monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], times: int) -> list[int]:
    """Let the first `times` trajectories that begin raise an error after a batch; return the list of their ends."""
    begin, ends = editing.run_trajectory, []

    def begin_and_fail(*arguments, **options):
        for checkpoint in begin(*arguments, **options):
            yield checkpoint
            if len(ends) < times:
                ends.append(checkpoint.edits)
                raise error()

    monkeypatch.setattr(editing, "run_trajectory", begin_and_fail)
    return ends


def sphere(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["sphere", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


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
    assert [failure["error"] for failure in result.failures] == ["OutOfMemory"]
    assert "ran out of memory 2 times" in result.failures[0]["message"]
    assert "Tried to allocate 9 GiB" in result.failures[0]["message"]
    states = [found.state for found in derive_state(Storage(tmp_path), sweep.plan).trajectories]
    assert states == ["failed", "done"]


class Exhausted(LocalExecutor):
    """Loses its worker to the machine's memory watch, so often."""

    def __init__(self, root: str, times: int) -> None:
        super().__init__(root, threads=1, device="cpu")
        self.left = times

    def wait(self, seconds: float) -> list[Event]:
        if self._assigned is not None and isinstance(self._assigned[1], TrajectoryTask) and self.left:
            self.left -= 1
            (worker, task), self._assigned = self._assigned, None
            return [Lost(worker, task, "killed by the memory monitor", out_of_memory=True)]
        return super().wait(seconds)


@pytest.mark.parametrize(("times", "failed"), [(1, 0), (2, 1)])
def test_a_worker_killed_for_its_memory_counts_as_out_of_memory(
    sweep: Sweep, tmp_path: Path, times: int, failed: int
) -> None:
    result = run(sweep, tmp_path, executor=Exhausted(str(tmp_path), times))
    assert [failure["error"] for failure in result.failures] == ["OutOfMemory"] * failed


class Stillborn(LocalExecutor):
    """Its workers end before they are ready, so often."""

    def __init__(self, root: str, times: int) -> None:
        super().__init__(root, threads=1, device="cpu")
        self.left = times

    def start(self, role: Role) -> Worker:
        worker = super().start(role)
        if self.left:
            self.left -= 1
            self._events[-1] = Lost(worker, None, "ImportError: no such module")
        return worker


def test_workers_that_cannot_start_end_the_run_with_the_reason(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"5 workers in a row could not start.*ImportError: no such module"):
        run(sweep, tmp_path, executor=Stillborn(str(tmp_path), MAX_STILLBORN))


def test_a_few_stillborn_workers_do_no_harm(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> None:
    assert run(sweep, tmp_path, executor=Stillborn(str(tmp_path), MAX_STILLBORN - 1)).complete
    assert results_of(tmp_path) == results_of(undisturbed)


# --- storage


def test_a_full_disk_ends_the_run_with_code_3_and_nothing_is_marked_done(
    sweep_file: Path,
    sweep: Sweep,
    undisturbed: Path,
    faulty: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fill() -> None:
        stands = Storage(faulty).list()
        full = any(path.endswith("000004/weights.safetensors") for path in stands)
        FaultyFiles.fault = staticmethod(lambda call: disk_full() if full and call == "write" else None)

    write = Storage.write_bytes

    def write_until_full(storage: Storage, path: str, data: bytes) -> None:
        write(storage, path, data)
        if path.endswith("000004/weights.safetensors") or "weights" in path:
            fill()

    monkeypatch.setattr(Storage, "write_bytes", write_until_full)
    arguments = ("run", sweep_file, "--local", "--root", faulty)
    assert sphere(monkeypatch, *arguments) == 3
    shown = capsys.readouterr()
    assert "storage has given out" in shown.err
    assert "No space left" in shown.err
    assert "Traceback" not in shown.err
    FaultyFiles.fault = staticmethod(lambda _: None)
    state = derive_state(Storage(faulty), sweep.plan)
    assert not any(found.is_finished for found in state.trajectories)
    assert state.failures == []
    monkeypatch.setattr(Storage, "write_bytes", write)
    assert sphere(monkeypatch, *arguments) == 0
    stored = {name: Storage(faulty).read_bytes(name) for name in results_of(undisturbed)}
    assert stored == results_of(undisturbed)


@pytest.mark.usefixtures("no_patience")
def test_flaky_storage_is_tried_again(sweep: Sweep, undisturbed: Path, faulty: str) -> None:
    calls = 0

    def every_third(_: str) -> Exception | None:
        nonlocal calls
        calls += 1
        # Object stores raise what they like.
        return (
            [OSError(errno.EIO, "input/output error"), RuntimeError("503 slow down")][calls % 2]
            if calls % 3 == 0
            else None
        )

    FaultyFiles.fault = staticmethod(every_third)
    assert run(sweep, faulty).complete
    FaultyFiles.fault = staticmethod(lambda _: None)
    assert {name: Storage(faulty).read_bytes(name) for name in results_of(undisturbed)} == results_of(undisturbed)


@pytest.mark.usefixtures("no_patience")
def test_storage_that_stays_broken_drains_the_run_and_marks_nothing(sweep: Sweep, faulty: str) -> None:
    running = threading.Event()
    FaultyFiles.fault = staticmethod(
        lambda call: TimeoutError("gone") if call == "write" and running.is_set() else None
    )

    def break_it(progress: object) -> None:
        if getattr(progress, "edits", 0) == 2:
            running.set()

    result = run(sweep, faulty, on_progress=break_it)
    assert not result.complete
    assert result.storage_fault is not None
    assert "TimeoutError: gone" in result.storage_fault
    FaultyFiles.fault = staticmethod(lambda _: None)
    assert derive_state(Storage(faulty), sweep.plan).failures == []
    assert run(sweep, faulty).complete


def test_a_replica_says_so_when_not_even_a_failure_can_be_written(
    sweep: Sweep, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = sweep.plan.trajectories[0]
    task = TrajectoryTask(plan, sweep.specs[plan.id].model_copy(update={"threads": 2}), 1, None)
    FaultyFiles.fault = staticmethod(lambda call: disk_full() if call == "write" else None)
    outcome = ModelReplica(faulty, threads=1, device="cpu").run(task)
    assert isinstance(outcome, StorageFailed)


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


# --- a silent partition: the old replica lives on


ZOMBIE = """
import sys, time
from pathlib import Path
from workflows.expand import load_sweep
from workflows.replica import ModelReplica
from workflows.tasks import TrajectoryTask

sweep, root, attempt, said = load_sweep(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
plan = sweep.plan.trajectories[0]

def say(progress):
    said.write_text(str(progress.edits))
    if progress.edits == 2:
        time.sleep(1.0)  # a batch that takes its time, with the first checkpoint still to come

replica = ModelReplica(root, threads=1, device="cpu", listener=say)
sys.stdout.write(type(replica.run(TrajectoryTask(plan, sweep.specs[plan.id], attempt, None))).__name__)
"""


def test_a_zombie_of_an_old_attempt_publishes_nothing(
    sweep_file: Path, sweep: Sweep, undisturbed: Path, tmp_path: Path
) -> None:
    root, said = tmp_path / "root", tmp_path / "said"
    shutil.copytree(undisturbed / "moments", root / "moments")
    plan = sweep.plan.trajectories[0]
    command = [sys.executable, "-c", ZOMBIE, str(sweep_file), str(root), "1", str(said)]
    zombie = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 90
        while not (said.exists() and said.read_text() == "2"):
            assert zombie.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # Out of reach, not dead: another replica does the work, and its checkpoint is then taken away.
        os.kill(zombie.pid, signal.SIGSTOP)
        replica = ModelReplica(str(root), threads=1, device="cpu")
        assert replica.run(TrajectoryTask(plan, sweep.specs[plan.id], 2, None)) == Done((4, 6), collapsed=False)
        shutil.rmtree(root / checkpoints_folder(plan.id) / "000004")
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
        os.kill(zombie.pid, signal.SIGCONT)
        outcome, _ = zombie.communicate(timeout=60)
    finally:
        zombie.kill()
        zombie.wait()
    assert outcome == "Superseded"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    assert checkpoints_in(Storage(root).child(checkpoints_folder(plan.id))) == [6]


def test_an_old_attempt_notices_at_its_next_word(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed / "moments", tmp_path / "moments")
    plan = sweep.plan.trajectories[0]
    storage = Storage(tmp_path)
    seen: list[int] = []

    def overtake(progress: object) -> None:
        seen.append(getattr(progress, "edits", 0))
        if seen[-1] == 2:
            take_lease(storage, plan.id, Lease(9, "elsewhere:1"))

    executor = LocalExecutor(str(tmp_path), threads=1, device="cpu")
    result = run(sweep, tmp_path, executor=executor, on_progress=overtake)
    assert ("Superseded", f"trajectory-{plan.id}") in [(f["error"], f["task"]) for f in result.failures]
    assert not isinstance(executor.wait(0.0), Finished)


def test_run_stops_with_code_2_where_another_driver_works(
    sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with DriverLock(Storage(tmp_path)).acquire():
        assert sphere(monkeypatch, "run", sweep_file, "--local", "--root", tmp_path) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "another driver works on this sweep" in error
        assert "--steal" in error
        assert not (tmp_path / "plan.json").exists()
