"""Two at one work: a replica taken for dead that lives on, and a second driver."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import sphere
from local_runs import run
from repository import REPOSITORY

from sphere_core.checkpoint_files import checkpoints_in
from sphere_core.foundation.storage import Storage
from workflows.driver.local_executor import LocalExecutor
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import Done, TrajectoryTask
from workflows.store.driver_lock import DriverLock
from workflows.store.layout import checkpoints_folder
from workflows.store.lease import take_lease
from workflows.store.records import Lease
from workflows.sweeps.expand import Sweep

SUPERSEDED = """
import os, signal, sys
from pathlib import Path
from workflows.sweeps.expand import load_sweep
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import TrajectoryTask

sweep, root, attempt = load_sweep(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
plan = sweep.plan.trajectories[0]

def say(progress):
    if progress.edits == 2:
        os.kill(os.getpid(), signal.SIGSTOP)  # in the middle, with the first checkpoint still to come

replica = ModelReplica(root, threads=1, device="cpu", listener=say)
sys.stdout.write(type(replica.run(TrajectoryTask(plan, sweep.specs[plan.id], attempt, None))).__name__)
"""


def test_a_superseded_process_publishes_nothing(
    sweep_file: Path, sweep: Sweep, undisturbed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(undisturbed / "moments", root / "moments")
    plan = sweep.plan.trajectories[0]
    command = [sys.executable, "-c", SUPERSEDED, str(sweep_file), str(root), "1"]
    superseded = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        _, status = os.waitpid(superseded.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        # Out of reach, not dead: another replica does the work, and its checkpoint is then taken away.
        replica = ModelReplica(str(root), threads=1, device="cpu")
        assert replica.run(TrajectoryTask(plan, sweep.specs[plan.id], 2, None)) == Done((4, 6), collapsed=False)
        shutil.rmtree(root / checkpoints_folder(plan.id) / "000004")
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
        os.kill(superseded.pid, signal.SIGCONT)
        outcome, _ = superseded.communicate()
    finally:
        superseded.kill()
        superseded.wait()
    assert outcome == "Superseded"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    assert checkpoints_in(Storage(root).child(checkpoints_folder(plan.id))) == [6]


def test_a_superseded_attempt_notices_at_its_next_report(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed / "moments", tmp_path / "moments")
    plan = sweep.plan.trajectories[0]
    storage = Storage(tmp_path)
    seen: list[int] = []

    def overtake(progress: object) -> None:
        seen.append(getattr(progress, "edits", 0))
        if seen[-1] == 2:
            take_lease(storage, plan.id, Lease(attempt=9, owner="elsewhere:1"))

    executor = LocalExecutor(str(tmp_path), threads=1, device="cpu")
    result = run(sweep, tmp_path, executor=executor, on_progress=overtake)
    assert ("Superseded", f"trajectory-{plan.id}") in [(f.error, f.task) for f in result.failures]
    assert checkpoints_in(storage.child(checkpoints_folder(plan.id))) == []
    assert executor.wait(0.0) == []


def test_run_stops_with_code_2_where_another_driver_works(
    sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with DriverLock(Storage(tmp_path)).acquire():
        assert sphere(monkeypatch, "run", sweep_file, "--local", "--root", tmp_path) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "another driver works on this sweep" in error
        assert "--steal" in error
        assert not (tmp_path / "plan.json").exists()
