"""Fine-tuning after editing in a sweep: killed and resumed, kept, counted and compared with a control."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import torch
from command_line import sphere
from local_runs import Crash, run
from sweep_files import results_of, tiny, write_sweep
from transformers import AutoModelForCausalLM

from sphere_core.checkpoint_files import WEIGHTS, checkpoints_in
from sphere_core.checkpoints import read_installed
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.driver.backlog import Backlog
from workflows.replicas.tasks import ReplicaProgress, ScoreTask, TrajectoryTask
from workflows.results.figures.catalogue import FIGURES
from workflows.store.layout import checkpoints_folder
from workflows.store.state import derive_state, scan
from workflows.sweeps.expand import Sweep, load_sweep
from workflows.sweeps.publish import publish

STEPS = {"lr": 0.02, "steps": 4, "batch_size": 4, "max_length": 24}
LORA = {"finetune": {"method": "lora", "rank": 4, "alpha": 8, "layers": "all", **STEPS}, "checkpoint_every": 2}
LORA |= {"data": {"people": 1, "texts": 30}}


def settings(**changes: object) -> dict[str, object]:
    streams = [{"dataset": "factworld", "edits": 4, "order": "shuffled"}]
    return tiny(
        methods=["ft"],
        seeds=[0],
        streams=streams,
        moments=None,
        checkpoint_every=2,
        evaluators={"edit_quality": {}},
        **{"afterwards": [LORA], **changes},
    )


def loaded(folder: Path, **changes: object) -> Sweep:
    return load_sweep(write_sweep(folder, settings(**changes)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a complete sweep: FT's after 2 and 4 edits, and LoRA's after 2 and 4 steps on the last."""
    folder = tmp_path_factory.mktemp("afterwards")
    sweep = loaded(folder, keep="last 1")
    publish(sweep, Storage(folder / "root"))
    run(sweep, folder / "root")
    return folder / "root"


def parent_and_child(sweep: Sweep) -> tuple[str, str]:
    parent, child = (found.id for found in sweep.plan.trajectories)
    return parent, child


@pytest.mark.parametrize(("at", "place"), [(3, 1), (1, 0)])
def test_killed_anywhere_and_run_again_it_is_byte_equal(root: Path, tmp_path: Path, at: int, place: int) -> None:
    sweep = loaded(tmp_path, keep="last 1")
    killed = parent_and_child(sweep)[place]

    def crash(progress: ReplicaProgress) -> None:
        if progress.editing == killed and progress.edits >= at:
            raise Crash

    with pytest.raises(Crash):
        run(sweep, tmp_path / "root", on_progress=crash)
    assert results_of(tmp_path / "root") != results_of(root)
    run(sweep, tmp_path / "root")
    assert results_of(tmp_path / "root") == results_of(root)


def test_a_child_is_scored_counted_and_shown_as_any_trajectory(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "status", root, "--json") == 0
    parent, child = json.loads(capsys.readouterr().out)["trajectories"]
    assert (parent["state"], parent["edits"], parent["of"], parent["parent"]) == ("done", 4, 4, None)
    assert (child["state"], child["edits"], child["of"]) == ("done", 4, 4)
    assert child["method"] == "ft, then LoRA"
    assert child["parent"]["trajectory"] == parent["id"]
    assert sphere(monkeypatch, "table", root, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert {"ft", "ft, then LoRA"} <= {row["method"] for row in shown["rows"]}
    assert sphere(monkeypatch, "verify", root) == 0
    assert sphere(monkeypatch, "gc", root) == 0
    rows = duckdb.sql(f"SELECT DISTINCT trajectory_id, edits, steps FROM '{root}/rows/*/*.parquet'").fetchall()
    assert {(edits, steps) for name, edits, steps in rows if name == child["id"]} == {(4, 2), (4, 4)}
    assert {(edits, steps) for name, edits, steps in rows if name == parent["id"]} == {(2, None), (4, None)}


@pytest.mark.parametrize("role", ["rewrite", "paraphrase"])
def test_flips_are_counted_beside_the_control(
    root: Path, role: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "retention", root, "finetune", "--role", role, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(row["steps"], row["facts"]): row for row in (found["rows"] if isinstance(found, dict) else found)}
    assert set(rows) == {(steps, facts) for steps in (2, 4) for facts in ("edits", "intrinsic")}
    # The same in plain Python, from the stored probes and their texts.
    read = duckdb.sql(
        f"SELECT trajectory_id, edits, steps, edit, probe, role, correct = tokens "
        f"FROM '{root}/details/probes/*.parquet' WHERE protocol = 'correct'"
    ).fetchall()
    texts = dict(
        ((edit, probe), (prompt, target))
        for edit, probe, prompt, target in duckdb.sql(
            f"SELECT edit, probe, prompt, target FROM '{root}/details/probe_texts/*.parquet'"
        ).fetchall()
    )
    child = next(name for name, _, steps, *_ in read if steps is not None)
    before = {row[3:5]: row[6] for row in read if row[0] not in (None, child) and row[1] == 4}
    known = {row[3:5] for row in read if row[0] is None and row[5] == "neighborhood" and row[6]}
    for steps in (2, 4):
        groups: dict[str, dict[object, tuple[bool, bool]]] = defaultdict(dict)
        for name, _, at, edit, probe, kind, right in read:
            if name != child or at != steps:
                continue
            pair = (before[edit, probe], right)
            if kind == role:
                groups["edits"][edit, probe] = pair
            elif kind == "neighborhood" and (edit, probe) in known:
                groups["intrinsic"][texts[edit, probe]] = pair
        for facts, pairs in groups.items():
            row, right = rows[steps, facts], [after for was, after in pairs.values() if was]
            assert row["n"] == len(right) > 0
            assert row["seeds"] == 1
            assert row["flipped"] == pytest.approx(1 - sum(right) / len(right))
            assert row["low"] <= row["flipped"] <= row["high"]
    assert max(row["flipped"] for row in rows.values()) > 0


def test_its_figure_is_drawn_and_other_tables_leave_it_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "finetune" in FIGURES
    assert sphere(monkeypatch, "plot", root, "finetune", "--out", tmp_path / "flips.svg") == 0
    drawn = (tmp_path / "flips.svg").read_text(encoding="utf-8")
    assert "optimiser steps" in drawn
    assert "facts known unedited" in drawn
    capsys.readouterr()
    assert sphere(monkeypatch, "retention", root, "--json") == 0
    assert "then LoRA" not in capsys.readouterr().out


def test_it_is_exported_whole_and_made_again_from_the_delta(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, child = parent_and_child(loaded(tmp_path, keep="last 1"))
    plain, delta, applied = tmp_path / "plain", tmp_path / "delta", tmp_path / "applied"
    assert sphere(monkeypatch, "export", root, "--trajectory", child, "--to", plain) == 0
    assert sphere(monkeypatch, "export", root, "--trajectory", child, "--to", delta, "--delta-only") == 0
    assert sphere(monkeypatch, "apply", delta, "--model", "factworld", "--to", applied) == 0
    assert {path.name: path.read_bytes() for path in plain.iterdir()} == {
        path.name: path.read_bytes() for path in applied.iterdir()
    }
    installed = read_installed(Storage(root).child(checkpoints_folder(child)), 4)
    network = AutoModelForCausalLM.from_pretrained(plain, dtype="float32")
    assert installed.tuned
    for name, weight in {**installed.weights, **installed.tuned}.items():
        assert torch.equal(network.get_parameter(name), weight)
    assert "then 4 steps of fine-tuning (lora)" in (plain / "README.md").read_text(encoding="utf-8")


def test_the_checkpoint_that_is_tuned_stays_whole(root: Path, tmp_path: Path) -> None:
    parent, child = parent_and_child(loaded(tmp_path, keep="last 1"))
    storage = Storage(root)
    for trajectory, whole in ((parent, {4}), (child, {4})):
        folder = storage.child(checkpoints_folder(trajectory))
        assert checkpoints_in(folder) == [2, 4]
        assert {edits for edits in (2, 4) if folder.exists(f"{edits:06d}/{WEIGHTS}")} == whole
    earlier = loaded(tmp_path / "early", keep="last 1", afterwards=[{**LORA, "checkpoints": [2, 4]}])
    assert earlier.plan.trajectories[0].tuned_at == (2, 4)


def test_identities_are_of_the_parent_the_settings_and_the_texts(tmp_path: Path) -> None:
    def ids(name: str, **changes: object) -> list[str]:
        return [found.id for found in loaded(tmp_path / name, **changes).plan.trajectories]

    first = ids("first")
    assert ids("none", afterwards=None) == first[:1]
    named = {**LORA, "label": "another name", "checkpoint_every": 4}
    assert ids("named", afterwards=[named]) == first
    other = [
        ids("texts", afterwards=[{**LORA, "data": {"people": 1, "texts": 31}}]),
        ids("people", afterwards=[{**LORA, "data": {"people": 2, "texts": 30}}]),
        ids("rate", afterwards=[{**LORA, "finetune": {**LORA["finetune"], "lr": 0.01}}]),
        ids("edits", afterwards=[{**LORA, "checkpoints": [2]}]),
    ]
    assert all(found[0] == first[0] for found in other)
    assert len({found[1] for found in [first, *other]}) == 5


@pytest.mark.parametrize(
    ("afterwards", "what"),
    [
        ([{**LORA, "checkpoints": [3]}], "no checkpoint after 3 edits"),
        ([{**LORA, "data": {"people": 1, "texts": 10**6}}], "texts, 1000000 are requested"),
        ([LORA, LORA], "appears twice"),
        ([LORA, {**LORA, "label": "again"}], "are the same fine-tuning"),
        ([{**LORA, "data": {"people": 1, "corpus": "factworld", "texts": 3}}], "either `corpus` or `people`"),
        ([{**LORA, "finetune": {**LORA["finetune"], "rnk": 3}}], "unknown key 'rnk'"),
        ([{**LORA, "data": {"corpus": "no.jsonl", "texts": 3}}], "not found"),
    ],
)
def test_wrong_input_is_refused_with_its_place(tmp_path: Path, afterwards: object, what: str) -> None:
    with pytest.raises(InputError, match=what) as fault:
        loaded(tmp_path, afterwards=afterwards)
    assert "afterwards" in str(fault.value.where)


def backlog(tmp_path: Path, **changes: object) -> tuple[Backlog, str, str]:
    sweep = loaded(tmp_path, **changes)
    return Backlog.from_files(sweep, Storage(tmp_path / "nothing")), *parent_and_child(sweep)


def taken(found: Backlog) -> list[str]:
    names = []
    while (task := found.take(("trajectory",), None)) is not None:
        assert isinstance(task, TrajectoryTask)
        names.append(task.plan.id)
    return names


def test_a_child_waits_for_its_checkpoint(tmp_path: Path) -> None:
    found, parent, child = backlog(tmp_path)
    assert taken(found) == [parent]
    assert found.published(parent, [2])
    assert taken(found) == []
    found.published(parent, [2, 4])
    assert taken(found) == [child]


def test_under_a_watchdog_it_waits_for_the_scores_too(tmp_path: Path) -> None:
    found, parent, child = backlog(tmp_path, watchdog={"collapsed_checkpoints": 1})
    taken(found)
    found.published(parent, [2, 4])
    scores = [task for task in iter(lambda: found.take(("score",), None), None) if task.trajectory_id == parent]
    for task in scores:
        assert taken(found) == []
        assert isinstance(task, ScoreTask)
        found.scored(task)
        found.release(parent)
    assert taken(found) == [child]


@pytest.mark.parametrize("how", ["collapsed", "stopped", "failed"])
def test_without_its_checkpoint_it_ends_with_its_parent(tmp_path: Path, how: str) -> None:
    found, parent, child = backlog(tmp_path)
    taken(found)
    if how == "collapsed":
        found.published(parent, [2], collapsed=True)
    elif how == "stopped":
        found.published(parent, [2])
        found.stop(parent, 2)
    found.ended(parent, failed=how == "failed")
    found.release(parent)
    assert taken(found) == []
    assert not found.has_open_trajectories()
    assert found.tracked[child].is_edited == (how != "failed")


def test_states_say_how_its_parent_ended(root: Path, tmp_path: Path) -> None:
    sweep, storage = loaded(tmp_path, keep="last 1"), Storage(root)
    parent, _child = parent_and_child(sweep)
    files = scan(storage)
    # The child has not begun, and its parent's last checkpoint is marked collapsed.
    begun = replace(files, checkpoints={parent: files.checkpoints[parent]}, progress=frozenset())
    assert [one.state for one in derive_state(storage, sweep.plan, begun).trajectories] == ["done", "planned"]
    path = tmp_path / "copy"
    for name in storage.list(checkpoints_folder(parent)):
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(storage.read_bytes(name).replace(b'"collapsed": false', b'"collapsed": true'))
    states = derive_state(Storage(path), sweep.plan).trajectories
    assert [one.state for one in states] == ["edited", "collapsed"]
    assert states[1].is_finished
