"""Storage that is full, flaky or gone: what the run does, and that nothing is marked done or failed by it."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import sphere
from local_runs import FaultyFiles, disk_full, run
from repository import REPOSITORY
from sweep_files import results_of

from sphere_core.foundation.storage import Storage
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import StorageFailed, TrajectoryTask
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep


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

    write = Storage.write_file

    def write_until_full(storage: Storage, path: str, *arguments: Any, **options: Any) -> None:
        write(storage, path, *arguments, **options)
        if "weights" in path:
            fill()

    monkeypatch.setattr(Storage, "write_file", write_until_full)
    arguments = ("run", sweep_file, "--local", "--root", faulty)
    assert sphere(monkeypatch, *arguments) == 3
    shown = capsys.readouterr()
    assert "storage is unavailable" in shown.err
    assert "No space left" in shown.err
    assert "Traceback" not in shown.err
    FaultyFiles.fault = staticmethod(lambda _: None)
    state = derive_state(Storage(faulty), sweep.plan)
    assert not any(found.is_finished for found in state.trajectories)
    assert state.failures == []
    monkeypatch.setattr(Storage, "write_file", write)
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


# A disk of its own that holds the second moments and a checkpoint and a half, then room on it. The mount is seen by
# this process and its children only.
SMALL_DISK = """
import shutil, subprocess, sys
from pathlib import Path
from typing import Any
from workflows.cli import main

disk, sweep_file, kept = sys.argv[1:]
root = Path(disk, "root")
sys.argv = ["sphere", "run", sweep_file, "--local", "--root", str(root)]

def run():
    try:
        main()
    except SystemExit as ended:
        return ended.code

if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4700k", "tmpfs", disk]).returncode:
    sys.exit(77)
print("first:", run())
print([f"left: {path}" for path in root.rglob("*") if path.suffix == ".tmp" or path.name in ("DONE", "error.json")])
subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
print("second:", run())
shutil.copytree(root, kept)
"""


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_really_full(sweep_file: Path, undisturbed: Path, tmp_path: Path) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    command = ["unshare", "--mount", sys.executable, "-c", SMALL_DISK, disk, sweep_file, kept]
    done = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert "first: 3" in done.stdout
    assert "No space left on device" in done.stderr
    assert "left:" not in done.stdout
    assert "second: 0" in done.stdout
    assert results_of(kept) == results_of(undisturbed)
