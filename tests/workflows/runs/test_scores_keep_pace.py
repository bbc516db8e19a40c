"""Scores of a run in one process keep pace with its checkpoints, and `sphere score` scores what is there."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import sphere
from executors import Interfering
from local_runs import Quiet
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.driver.driver import Driver
from workflows.runs.sweep_file import run_sweep_file
from workflows.store.layout import attempt_path
from workflows.store.lease import read_lease
from workflows.store.state import derive_state
from workflows.sweeps.expand import load_sweep
from workflows.sweeps.publish import publish

# Two wanted checkpoints of two batches each.
SETTINGS = tiny(
    seeds=[0],
    methods=["memit"],
    evaluators={"geometry": {}},
    streams=[{"dataset": "factworld", "edits": 8, "order": "shuffled"}],
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("spec"), SETTINGS)


@pytest.fixture(scope="module")
def ahead(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run that edits to the end before it scores."""
    root, sweep = tmp_path_factory.mktemp("ahead"), load_sweep(path)
    executor = Interfering(root)
    assert Driver(sweep, executor, Storage(root), Quiet()).run().complete
    kinds = [name.partition("-")[0] for name in executor.given]
    assert kinds == ["moments", "geometry", "trajectory", "geometry", "geometry"]
    return root


def test_a_checkpoint_is_scored_before_its_trajectory_goes_further(path: Path, ahead: Path, tmp_path: Path) -> None:
    sweep, storage = load_sweep(path), Storage(tmp_path)
    executor = Interfering(tmp_path)
    assert Driver(sweep, executor, storage, Quiet(), editing="paced").run().complete
    kinds = [name.partition("-")[0] for name in executor.given]
    assert kinds == ["moments", "geometry", "trajectory", "geometry", "trajectory", "geometry"]
    assert results_of(tmp_path) == results_of(ahead)
    # The same replica went on, as the same attempt: nothing was loaded again, and nothing counts as tried twice.
    assert executor.ended == []
    plan = sweep.plan.trajectories[0]
    lease = read_lease(storage, plan.id)
    assert lease is not None
    assert lease.attempt == 1
    assert not storage.exists(attempt_path(plan.id, 2))


def test_score_scores_what_is_there_and_edits_nothing(
    path: Path, ahead: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, root = load_sweep(path), tmp_path / "root"
    plan = sweep.plan.trajectories[0]
    # A run that was stopped after its first checkpoint, before any score.
    shutil.copytree(ahead, root)
    storage = Storage(root)
    publish(sweep, storage)
    storage.delete(f"trajectories/{plan.id}/checkpoints/000008")
    for row in storage.list("rows"):
        storage.delete(row)
    before = set(results_of(root))
    assert sphere(monkeypatch, "score", root, "--local") == 0
    assert "checkpoint scores 0/3" in capsys.readouterr().out
    state = derive_state(storage, sweep.plan)
    assert (state.bases_missing, state.trajectories[0].missing) == ((), ())
    assert state.trajectories[0].published == (4,)
    added = {name: data for name, data in results_of(root).items() if name not in before}
    there = [name for name in results_of(ahead) if name.startswith("rows/") and "000008" not in name]
    assert sorted(added) == sorted(there)
    assert all(data == (ahead / name).read_bytes() for name, data in added.items())
    # A second call has nothing to do; a run goes on editing, and finds these scores done.
    capsys.readouterr()
    assert sphere(monkeypatch, "score", root, "--local", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert sphere(monkeypatch, "score", root, "--local", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["root"], record["exit_code"], record["failures"]) == (str(root), 0, [])
    assert run_sweep_file(sweep=path, root=str(root), local=True).exit_code == 0
    assert results_of(root) == results_of(ahead)


def test_score_refuses_another_sweep_file_and_a_folder_without_a_sweep(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "score", tmp_path, "--local") == 2
    assert "no sweep here" in capsys.readouterr().err
    root = tmp_path / "root"
    publish(load_sweep(path), Storage(root))
    more = write_sweep(tmp_path / "more", {**SETTINGS, "methods": ["memit", "rome"]})
    there = Storage(root).list()
    assert sphere(monkeypatch, "score", root, "--local", "--sweep", more) == 2
    assert "not the one that this root was planned with" in capsys.readouterr().err
    assert Storage(root).list() == there
