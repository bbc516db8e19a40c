"""Running a sweep again that is complete: nothing is done, unless a plan or a verdict was left behind."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import sphere
from local_runs import run
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.driver.verdicts import lies_beyond
from workflows.store.driver_lock import DriverLock
from workflows.store.layout import LOCKS, PLAN_FILE, SWEEP_FILE, checkpoints_folder, stopped_path
from workflows.store.state import derive_state, scan
from workflows.sweeps.expand import Sweep, load_sweep


@pytest.fixture
def root(undisturbed: Path, tmp_path: Path) -> Path:
    """The root of the complete sweep, which has no plan yet."""
    shutil.copytree(undisturbed, tmp_path / "root")
    return tmp_path / "root"


def run_again(monkeypatch: pytest.MonkeyPatch, path: Path | str, root: Path) -> int:
    return sphere(monkeypatch, "run", path, "--local", "--root", root)


def test_a_complete_sweep_leaves_the_plan_of_a_driver_at_work_alone(
    sweep_file: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / PLAN_FILE).write_text("of another sweep")
    with DriverLock(Storage(root)).acquire():
        assert run_again(monkeypatch, sweep_file, root) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "another driver works on this sweep" in shown
        assert "everything is done, nothing to run" in shown
        assert "memit+rect" in shown
        assert (root / PLAN_FILE).read_text() == "of another sweep"
        assert not (root / SWEEP_FILE).exists()
    assert run_again(monkeypatch, sweep_file, root) == 0
    assert "another driver" not in capsys.readouterr().out
    assert json.loads((root / PLAN_FILE).read_text())["name"] == "tiny"
    assert (root / SWEEP_FILE).read_bytes() == sweep_file.read_bytes()
    assert Storage(root).list(LOCKS) == []


def test_where_nothing_is_owed_the_lock_is_not_asked_for(
    sweep_file: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_again(monkeypatch, sweep_file, root) == 0
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.setattr(DriverLock, "acquire", lambda *_, **__: pytest.fail("asked for the lock"))
    assert run_again(monkeypatch, sweep_file, root) == 0
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def watched(folder: Path, limit: float) -> Sweep:
    settings = tiny(seeds=[0], methods=["memit"], evaluators={"geometry": {}}, watchdog={"he_drift": limit})
    return load_sweep(write_sweep(folder / str(limit), settings))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path, Path]:
    """A sweep whose watchdog stops after the first checkpoint, its root, and one where a watchdog stops nothing."""
    folder = tmp_path_factory.mktemp("stopped")
    strict = watched(folder, 1e-9)
    assert run(watched(folder, 1e9), folder / "free").complete
    shutil.copytree(folder / "free", folder / "strict")
    assert run(strict, folder / "strict").complete
    return strict, folder / "strict", folder / "free"


@pytest.mark.parametrize("left", ["checkpoint", "rows"])
def test_what_a_killed_driver_left_beyond_a_verdict_is_discarded(
    stopped: tuple[Sweep, Path, Path],
    left: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep, strict, free = stopped
    root, plan = tmp_path / "root", sweep.plan.trajectories[0]
    shutil.copytree(strict, root)
    assert run_again(monkeypatch, sweep.text.source, root) == 0
    name = f"{checkpoints_folder(plan.id)}/000006" if left == "checkpoint" else plan.rows_path(6, plan.evaluations[0])
    (shutil.copytree if left == "checkpoint" else shutil.copyfile)(free / name, root / name)
    storage = Storage(root)
    files = scan(storage)
    state = derive_state(storage, sweep.plan, files)
    assert state.is_complete
    assert lies_beyond(state, files)
    with DriverLock(storage).acquire():
        assert run_again(monkeypatch, sweep.text.source, root) == 0
        assert (root / name).exists()
    capsys.readouterr()
    assert run_again(monkeypatch, sweep.text.source, root) == 0
    assert "everything is done, nothing to run" in capsys.readouterr().out
    assert results_of(root) == results_of(strict)
    assert not lies_beyond(state, scan(storage))


def test_verdicts_by_other_limits_are_judged_anew_though_all_is_done(
    stopped: tuple[Sweep, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, strict, free = stopped
    root, plan = tmp_path / "root", sweep.plan.trajectories[0]
    shutil.copytree(strict, root)
    other = watched(tmp_path / "other", 2e-9)
    # Nothing but the verdict is left of the work: it stands where it stood, by the new limits.
    for name in (f"{checkpoints_folder(plan.id)}/000006", plan.rows_path(6, plan.evaluations[0])):
        (shutil.copytree if (free / name).is_dir() else shutil.copyfile)(free / name, root / name)
    assert run_again(monkeypatch, other.text.source, root) == 0
    assert json.loads((root / stopped_path(plan.id)).read_text())["watchdog"]["he_drift"] == 2e-9
    assert results_of(root) == results_of(strict)
    # Without it, what it had cut off is done.
    loose = watched(tmp_path / "loose", 1e9)
    assert run_again(monkeypatch, loose.text.source, root) == 0
    assert results_of(root) == results_of(free)


def test_a_watchdog_that_is_added_judges_what_is_done_already(
    stopped: tuple[Sweep, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, strict, free = stopped
    root = tmp_path / "root"
    shutil.copytree(free, root)
    assert run_again(monkeypatch, sweep.text.source, root) == 0
    assert (root / stopped_path(sweep.plan.trajectories[0].id)).exists()
    assert results_of(root) == results_of(strict)
