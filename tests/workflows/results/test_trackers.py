"""Sweeps in trackers: one run per trajectory, one step per checkpoint, each sent once; with the real libraries."""

import importlib.util
import json
import sqlite3
from pathlib import Path

import pytest
from store_parts import GEOMETRY, QUALITY, base, put_checkpoint, put_scores, score, shared, trajectory

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows, publish_rows
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.trackers.send import Destination, Tracker, open_tracker, send_sweep
from workflows.results.trackers.wide_rows import TrackedRun, tracked_runs
from workflows.store.layout import spec_path
from workflows.store.plan import SweepPlan


def sweep(root: Path) -> tuple[Storage, SweepPlan]:
    """Write a sweep of two trajectories with one checkpoint each, of which the second is scored by half."""
    storage = Storage(root)
    plans = (trajectory("memit", 0), trajectory("memit", 1))
    unedited = base(QUALITY.model_copy(update={"id": "b" * 12}), 0)
    publish_rows(
        storage,
        unedited.rows_path,
        encode_rows(shared(unedited, 0, unedited.evaluation), [score("score", "argmax", 0.25)]),
    )
    for plan in plans:
        storage.write_bytes(spec_path(plan.id), json.dumps({"hyperparameters": {"v_lr": 0.5}}).encode())
        put_checkpoint(storage, plan, 4)
    put_scores(storage, plans[0], 4, 0.75, None)
    path = plans[1].rows_path(4, QUALITY)
    publish_rows(storage, path, encode_rows(shared(plans[1], 4, QUALITY), [score("score", "argmax", 0.5)]))
    return storage, SweepPlan(name="s", trajectories=plans, bases=(unedited,), recipes=())


def finish(storage: Storage, plan: SweepPlan) -> None:
    for one in plan.trajectories:
        put_checkpoint(storage, one, 8)
        put_scores(storage, one, 8, 0.5, 0.125)
    late = plan.trajectories[1]
    drift = [score("he_drift", "exact", 0.04)]
    publish_rows(storage, late.rows_path(4, GEOMETRY), encode_rows(shared(late, 4, GEOMETRY), drift))


def test_a_checkpoint_is_a_row_once_every_evaluator_has_scored_it(tmp_path: Path) -> None:
    storage, plan = sweep(tmp_path)
    (run,) = tracked_runs(SweepRoot.of(storage, plan), {})
    assert (run.id, run.group, run.finished) == (plan.trajectories[0].id, "s", False)
    assert run.settings["hp_v_lr"] == 0.5
    assert [row.edits for row in run.rows] == [0, 4]
    assert run.rows[0].values == {"edit_quality/score/argmax": 0.25}
    assert run.rows[1].values == {
        "collapsed": 1.0,
        "edit_quality/score/argmax": 0.75,
        "geometry/he_drift/exact": 0.04,
    }
    finish(storage, plan)
    runs = {run.id: run for run in tracked_runs(SweepRoot.of(storage, plan), {run.id: (0, 4)})}
    assert [[row.edits for row in runs[one.id].rows] for one in plan.trajectories] == [[8], [4, 8]]
    assert all(run.finished for run in runs.values())


class Remembers:
    """A tracker that keeps what it is sent, and fails when it is to."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.left = 100

    def send(self, run: TrackedRun) -> None:
        if not self.left:
            raise ConnectionError
        self.left -= 1
        self.rows += [(run.id, row.edits) for row in run.rows]


def test_each_row_is_sent_once_whatever_happens_between(tmp_path: Path) -> None:
    storage, plan = sweep(tmp_path)
    tracker, there = Remembers(), Destination("trackio", "p")
    assert send_sweep(storage, plan, tracker, there) == (2, False)
    assert send_sweep(storage, plan, tracker, there) == (0, False)
    finish(storage, plan)
    tracker.left = 1
    with pytest.raises(ConnectionError):
        send_sweep(storage, plan, tracker, there)
    tracker.left = 100
    assert send_sweep(storage, plan, tracker, there)[1]
    assert sorted(tracker.rows) == [(one.id, edits) for one in plan.trajectories for edits in (0, 4, 8)[one.seed :]]
    assert len(set(tracker.rows)) == len(tracker.rows)
    # Another project has none of it.
    assert send_sweep(storage, plan, Remembers(), Destination("trackio", "q"))[0] == 5


def test_an_unknown_tracker_and_one_that_is_not_installed() -> None:
    with pytest.raises(InputError, match="unknown tracker 'wandbb'") as caught:
        open_tracker(Destination("wandbb", "p"))
    assert "did you mean 'wandb'?" in str(caught.value.remedy)


def sent(folder: Path, destination: Destination) -> tuple[SweepPlan, Tracker]:
    """Send the sweep in two steps to a real tracker."""
    storage, plan = sweep(folder / "root")
    tracker = open_tracker(destination)
    send_sweep(storage, plan, tracker, destination)
    finish(storage, plan)
    assert send_sweep(storage, plan, tracker, destination)[1]
    return plan, tracker


def test_mlflow_holds_a_run_per_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = (tmp_path / "mlruns").as_uri()
    plan, _ = sent(tmp_path, Destination("mlflow", "p", place))
    client = mlflow.MlflowClient(tracking_uri=place)
    runs = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    assert {run.data.tags["sphere.trajectory"] for run in runs} == {one.id for one in plan.trajectories}
    run = next(run for run in runs if run.data.tags["sphere.trajectory"] == plan.trajectories[0].id)
    history = client.get_metric_history(run.info.run_id, "edit_quality/score/argmax")
    assert [(one.step, one.value) for one in sorted(history, key=lambda one: one.step)] == [
        (0, 0.25),
        (4, 0.75),
        (8, 0.5),
    ]
    assert run.data.params["hp_v_lr"] == "0.5"
    assert run.info.status == "FINISHED"


def test_a_place_that_mlflow_does_not_take_is_named() -> None:
    pytest.importorskip("mlflow", reason="needs mlflow-skinny")
    with pytest.raises(InputError, match="MLflow cannot use it") as caught:
        open_tracker(Destination("mlflow", "p", "nowhere://here"))
    assert caught.value.where == "--place nowhere://here"


def test_wandb_writes_files_to_sync(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs wandb")
    plan, _ = sent(tmp_path, Destination("wandb", "p", str(tmp_path)))
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert {path.stem.removeprefix("run-") for path in files} == {one.id for one in plan.trajectories}
    assert all(b"edit_quality/score/argmax" in path.read_bytes() for path in files)


def test_trackio_holds_the_steps(tmp_path: Path) -> None:
    # Not imported here: it reads its folder when it is imported.
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("needs trackio")
    sent(tmp_path, Destination("trackio", "p", str(tmp_path / "trackio")))
    (file,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY run_name, step").fetchall()
    steps = {}
    for name, step, metrics in rows:
        steps.setdefault(name, []).append((step, json.loads(metrics).get("edit_quality/score/argmax")))
    assert [found for name, found in steps.items() if "seed 0" in name] == [[(0, 0.25), (4, 0.75), (8, 0.5)]]
