"""The driver and the replica in one process: the same work as on a cluster, without Ray."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from local_runs import Crash, run
from sweep_files import FEWER_STEPS, results_of, tiny, with_fewer_steps, write_sweep

from sphere_core.checkpoints import read_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.driver.backlog import Backlog
from workflows.driver.driver import SweepResult
from workflows.driver.local_executor import LocalExecutor
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import Done, ReplicaProgress, Superseded, TrajectoryTask
from workflows.results.sql.connect import connect
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.sql.timing_table import EDIT_WORK
from workflows.results.tables.table import results_table
from workflows.store.layout import checkpoints_folder
from workflows.store.lease import read_lease, take_lease
from workflows.store.records import Lease
from workflows.store.row_reader import read_rows
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep, load_sweep

KINDS = ("edit_quality", "geometry")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    methods = with_fewer_steps("memit", "alphaedit+sphere")
    return load_sweep(write_sweep(tmp_path_factory.mktemp("spec"), tiny(seeds=[0], methods=methods, keep_keys=True)))


@pytest.fixture(scope="module")
def undisturbed(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    result = run(sweep, root)
    assert result == SweepResult(complete=True, stopped=False, failures=())
    return root


def test_every_checkpoint_has_rows_of_every_evaluator(sweep: Sweep, undisturbed: Path) -> None:
    rows = read_rows(Storage(undisturbed), sweep.plan).to_pylist()
    scored = {(row["trajectory_id"], row["edits"], row["evaluator"]) for row in rows}
    expected = {
        (t.id, edits, kind)
        for t in sweep.plan.trajectories
        for edits in (4, 6)
        for kind in ("edit_quality", "geometry")
    }
    assert scored == expected | {(None, 0, "edit_quality"), (None, 0, "geometry")}
    efficacy = [row["value"] for row in rows if row["metric"] == "efficacy" and row["edits"] == 6]
    assert max(efficacy) > 0
    digests = {(row["trajectory_id"], row["edits"]): row["weights_digest"] for row in rows}
    assert len(set(digests.values())) == len(digests)


def test_edit_quality_asks_about_the_edits_so_far(sweep: Sweep, undisturbed: Path) -> None:
    rows = read_rows(Storage(undisturbed), sweep.plan).to_pylist()
    asked = {row["edits"]: row["n"] for row in rows if row["metric"] == "efficacy" and row["protocol"] == "argmax"}
    assert asked == {0: 6, 4: 4, 6: 6}


def test_every_lap_and_score_leaves_its_seconds_by_stage(sweep: Sweep, undisturbed: Path) -> None:
    with connect(Storage(undisturbed), sweep.plan, views=("stages",)) as connection:
        rows = connection.sql("FROM stages").to_arrow_table().to_pylist()
    work = {(row["trajectory_id"], row["edits"], row["work"]) for row in rows}
    expected = {(t.id, n, kind) for t in sweep.plan.trajectories for n in (4, 6) for kind in (EDIT_WORK, *KINDS)}
    assert work == expected | {(None, 0, kind) for kind in KINDS}
    for path in (undisturbed / "timings").rglob("*.json"):
        record = json.loads(path.read_bytes())
        assert sum(record["stages"].values()) == pytest.approx(record["seconds"], abs=1e-4)
        assert (record["device"], record["threads"], "torch" in record["versions"]) == ("cpu", 1, True)
        named = {"checkpoint", "write"} if path.parent.name == EDIT_WORK else {"score", "publish"}
        assert named <= record["stages"].keys()


def test_a_second_run_does_nothing(sweep: Sweep, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    backlog = Backlog.from_files(sweep, Storage(undisturbed))
    assert backlog.waiting() == {"moments": 0, "trajectory": 0, "score": 0}
    assert run(sweep, undisturbed).complete
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == before


# The moments; weights, state and manifest of checkpoints; the first rows.
@pytest.mark.parametrize("crash_at", [1, 8, 10, 13, 14, 17])
def test_a_crash_at_any_write_changes_nothing(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    publish, writes = Storage._publish, 0

    def dying_publish(storage: Storage, target: Path, *writing: Callable[..., object]) -> None:
        nonlocal writes
        writes += 1
        if writes == crash_at:
            raise Crash
        publish(storage, target, *writing)

    monkeypatch.setattr(Storage, "_publish", dying_publish)
    with pytest.raises(Crash):
        run(sweep, tmp_path)
    monkeypatch.undo()
    assert run(sweep, tmp_path).complete
    assert results_of(tmp_path) == results_of(undisturbed)


def test_a_damaged_checkpoint_is_made_again(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    plan = sweep.plan.trajectories[1]
    folder = tmp_path / checkpoints_folder(plan.id)
    (folder / "000004" / "manifest.json").unlink()
    (folder / "000006" / "weights.safetensors").write_bytes(b"damaged")
    for rows in tmp_path.glob(f"rows/*/{plan.id}-*"):
        rows.unlink()
    assert run(sweep, tmp_path).complete
    assert results_of(tmp_path) == results_of(undisturbed)


def test_scoring_needs_nothing_but_files(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    for rows in tmp_path.glob("rows/*/*.parquet"):
        rows.unlink()
    backlog = Backlog.from_files(sweep, Storage(tmp_path))
    assert backlog.waiting() == {"moments": 0, "trajectory": 0, "score": 10}
    assert run(sweep, tmp_path).complete
    assert results_of(tmp_path) == results_of(undisturbed)


def test_a_drained_replica_publishes_where_it_is_and_nothing_is_done_twice(
    sweep: Sweep, undisturbed: Path, tmp_path: Path
) -> None:
    executor = LocalExecutor(str(tmp_path), threads=1, device="cpu")
    seen: list[tuple[str | None, int]] = []

    def drain(progress: ReplicaProgress) -> None:
        seen.append((progress.task, progress.edits))
        if progress.edits == 2 and progress.of == 6 and seen.count((progress.task, 2)) == 1:
            executor.stop_work()

    assert run(sweep, tmp_path, executor=executor, on_progress=drain).complete
    assert results_of(tmp_path) == results_of(undisturbed)
    for plan in sweep.plan.trajectories:
        edits = [done for task, done in seen if task == f"trajectory-{plan.id}" and done]
        # Every batch is edited once; where a new attempt begins, it says once more where that is.
        assert sorted(set(edits)) == [2, 4, 6]
        assert len(edits) == 4
        lease = read_lease(Storage(tmp_path), plan.id)
        assert lease is not None
        assert lease.attempt == 2


def test_an_interrupt_publishes_where_it_is_and_the_next_run_resumes_from_there(
    sweep: Sweep, undisturbed: Path, tmp_path: Path
) -> None:
    executor = LocalExecutor(str(tmp_path), threads=1, device="cpu")

    def interrupt(progress: ReplicaProgress) -> None:
        if progress.edits == 2 and progress.of == 6:
            raise KeyboardInterrupt

    result = run(sweep, tmp_path, executor=executor, on_progress=interrupt)
    assert result.stopped
    assert not derive_state(Storage(tmp_path), sweep.plan).is_complete
    assert run(sweep, tmp_path).complete
    assert results_of(tmp_path) == results_of(undisturbed)


def test_a_failing_trajectory_leaves_its_traceback_and_the_others_finish(tmp_path: Path) -> None:
    # Nothing of C0 lies below such a threshold, which only shows when the null space is computed.
    hopeless = {"nullspace_share": None, "nullspace_threshold": 1e-30}
    settings = tiny(seeds=[0], methods=[*with_fewer_steps("memit"), {"name": "alphaedit", "hyperparameters": hopeless}])
    faulty = load_sweep(write_sweep(tmp_path, settings))
    root = tmp_path / "root"
    result = run(faulty, root)
    state = derive_state(Storage(root), faulty.plan)
    assert [t.state for t in state.trajectories] == ["done", "failed"]
    record = json.loads((root / "trajectories" / faulty.plan.trajectories[1].id / "error.json").read_text())
    assert record["error"] == "EmptyNullSpace"
    assert "Traceback" in record["traceback"]
    assert [failure.task for failure in result.failures] == [f"trajectory-{faulty.plan.trajectories[1].id}"]
    # Failed work is not repeated unless it is asked for.
    assert Backlog.from_files(faulty, Storage(root)).waiting() == {"moments": 0, "trajectory": 0, "score": 0}


def test_a_collapsed_trajectory_ends_is_scored_and_says_so(tmp_path: Path) -> None:
    # Steps that take fp16 weights beyond 65504: the first batch writes weights that are not finite.
    half = {"source": "factworld", "dtype": "float16", "preset": "factworld"}
    exploding = {"name": "ft", "hyperparameters": {"lr": 1e3, "num_steps": 80}}
    evaluators = {"edit_quality": {}, "general": {"tasks": ["factworld"], "limit": 2}, "geometry": {}}
    methods = [exploding, *with_fewer_steps("alphaedit")]
    settings = tiny(models=[half], seeds=[0], methods=methods, evaluators=evaluators)
    collapsing = load_sweep(write_sweep(tmp_path, settings))
    root = tmp_path / "root"
    result = run(collapsing, root)
    assert (result.complete, result.failures) == (True, ())
    state = derive_state(Storage(root), collapsing.plan)
    assert [(found.state, found.to_score) for found in state.trajectories] == [("collapsed", (2,)), ("done", (4, 6))]
    table = results_table(SweepRoot.of(Storage(root), collapsing.plan), by_edits=False)
    rows = {row.method: row for row in table.rows}
    assert {cell.text() for cell in rows["ft"].cells.values()} == {"collapsed"}
    assert all(cell.collapsed == 0 for cell in rows["alphaedit"].cells.values())
    assert Backlog.from_files(collapsing, Storage(root)).waiting() == {"moments": 0, "trajectory": 0, "score": 0}


def test_a_superseded_replica_publishes_nothing_more(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    plan, storage = sweep.plan.trajectories[0], Storage(tmp_path)
    storage.delete(checkpoints_folder(plan.id))
    later = Lease(attempt=9, owner="elsewhere:1")

    def overtake(progress: ReplicaProgress) -> None:
        if progress.edits == 2:
            take_lease(storage, plan.id, later)

    replica = ModelReplica(str(tmp_path), threads=1, device="cpu", listener=overtake)
    outcome = replica.run(TrajectoryTask(plan, sweep.specs[plan.id], 2, None))
    assert outcome == Superseded("attempt 9 by elsewhere:1")
    assert not storage.exists(checkpoints_folder(plan.id))
    assert read_lease(storage, plan.id) == later
    assert isinstance(replica.run(TrajectoryTask(plan, sweep.specs[plan.id], 3, None)), Superseded)
    last = TrajectoryTask(plan, sweep.specs[plan.id], 10, None)
    assert ModelReplica(str(tmp_path), threads=1, device="cpu").run(last) == Done((4, 6), collapsed=False)


def test_nothing_of_one_trajectory_reaches_the_next(tmp_path: Path) -> None:
    wide = {"name": "memit", "label": "wide", "hyperparameters": {**FEWER_STEPS, "layers": [0, 1, 2]}}
    narrow = {"name": "memit", "label": "narrow", "hyperparameters": {**FEWER_STEPS, "layers": [0]}}
    both = load_sweep(write_sweep(tmp_path / "both", tiny(seeds=[0], methods=[wide, narrow])))
    alone = load_sweep(write_sweep(tmp_path / "alone", tiny(seeds=[0], methods=[narrow])))
    run(both, tmp_path / "both" / "root")
    run(alone, tmp_path / "alone" / "root")
    name = alone.plan.trajectories[0].id
    mixed = {key: data for key, data in results_of(tmp_path / "both" / "root").items() if name in key}
    assert mixed
    assert mixed == {key: data for key, data in results_of(tmp_path / "alone" / "root").items() if name in key}
    storage = Storage(tmp_path / "alone" / "root").child(checkpoints_folder(name))
    assert len(read_checkpoint(storage, 6).weights) == 1


def test_changed_data_is_noticed_before_it_is_edited(tmp_path: Path) -> None:
    facts = [
        {"requested_rewrite": {"prompt": "{} lives in", "subject": f"Person {i}", "target_new": {"str": "Rome"}}}
        for i in range(2)
    ]
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(facts), encoding="utf-8")
    stream: dict[str, Any] = {"dataset": "counterfact", "path": "facts.json", "edits": 2}
    settings = tiny(seeds=[0], methods=with_fewer_steps("memit"), streams=[stream], checkpoint_every=2)
    changed = load_sweep(write_sweep(tmp_path, settings))
    facts[0]["requested_rewrite"]["target_new"] = {"str": "Oslo"}
    path.write_text(json.dumps(facts), encoding="utf-8")
    result = run(changed, tmp_path / "root")
    assert {failure.error for failure in result.failures} == {"InputError"}
    assert "not the one the sweep was planned with" in result.failures[0].message
    assert results_of(tmp_path / "root").keys() == {
        base.rows_path for base in changed.plan.bases if base.stream_digest is None
    }


def spoil(replica: ModelReplica, spec: TrajectorySpec, name: str) -> None:
    """Change what the model would restore, behind its back."""
    with replica._model.lent(spec, (0, 1)) as model:
        model._original[name] = model._original[name] + 1
        site = model.open_sites([0])[0]
        model.set_weight(site, torch.zeros_like(model.weight(site)))


def test_a_model_that_comes_back_changed_is_not_used_again(sweep: Sweep, tmp_path: Path) -> None:
    plan = sweep.plan.trajectories[0]
    replica = ModelReplica(str(tmp_path), threads=1, device="cpu")
    with replica._model.lent(sweep.specs[plan.id], (0, 1)) as model:
        whole = model.weights_digest()
        name = next(iter(model.edited_weights()))
    with pytest.raises(RuntimeError, match="not the unedited weight"):
        spoil(replica, sweep.specs[plan.id], name)
    with replica._model.lent(sweep.specs[plan.id], (0, 1)) as model:
        assert model.weights_digest() == whole


def test_a_replica_of_other_threads_refuses(sweep: Sweep, tmp_path: Path) -> None:
    plan = sweep.plan.trajectories[0]
    replica = ModelReplica(str(tmp_path), threads=1, device="cpu")
    spec = sweep.specs[plan.id].model_copy(update={"threads": 2})
    outcome = replica.run(TrajectoryTask(plan, spec, 1, None))
    assert "threads" in getattr(outcome, "message", "")


def test_a_missing_device_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, InputError)):
        ModelReplica(str(tmp_path), threads=1, device="no-such-device")
