"""Compacted rows: the same tables, never stale, nothing of unfinished or failed trajectories, free to be deleted."""

import logging
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from command_line import sphere
from figure_parts import drawn_sweep
from store_parts import QUALITY, put_checkpoint, put_scores, score, shared

import workflows.api as api
from evaluators.base import Score
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows
from workflows.results.sql.sweep_roots import open_roots
from workflows.store.compaction import compact, compact_trajectory
from workflows.store.fresh import forget_method
from workflows.store.plan import SweepPlan, TrajectoryPlan
from workflows.store.state import derive_state, scan

ROWS = "FROM scores ORDER BY trajectory_id, edits, metric, protocol, task"


def compacted(storage: Storage, plan: SweepPlan) -> list[str]:
    files = scan(storage)
    compact(storage, plan, derive_state(storage, plan, files), files)
    return storage.list("compacted")


def answer(root: Path) -> pa.Table:
    return api.open_sweep(root=str(root)).sql(ROWS)


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[Storage, SweepPlan]:
    return drawn_sweep(tmp_path / "s")


def test_tables_and_queries_are_the_same_from_compacted_rows(
    sweep: tuple[Storage, SweepPlan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = sweep[0].local_path()
    before = answer(root)
    assert sphere(monkeypatch, "table", root) == 0
    shown = capsys.readouterr().out
    assert sphere(monkeypatch, "compact", root) == 0
    assert "12 trajectories compacted" in capsys.readouterr().out
    (opened,) = open_roots([str(root)])
    assert all(len(opened.row_sources(one)) == 1 for one in opened.plan.trajectories)
    assert answer(root).equals(before)
    assert sphere(monkeypatch, "table", root) == 0
    assert capsys.readouterr().out == shown
    assert sphere(monkeypatch, "compact", root) == 0
    assert "0 trajectories compacted (0 rows), 12 were already" in capsys.readouterr().out
    shutil.rmtree(root / "compacted")
    assert answer(root).equals(before)


def test_a_row_file_that_is_gone_or_new_makes_a_compacted_file_unused(sweep: tuple[Storage, SweepPlan]) -> None:
    storage, plan = sweep
    names = compacted(storage, plan)
    one = plan.trajectories[0]
    storage.delete(one.rows_path(20, QUALITY))
    (opened,) = open_roots([storage.uri])
    assert len(opened.row_sources(one)) > 1
    assert len(opened.row_sources(plan.trajectories[1])) == 1
    assert answer(storage.local_path()).filter(pa.compute.field("trajectory_id") == one.id).num_rows > 0
    # Not finished any more: the outdated file goes, the others stay.
    assert compacted(storage, plan) == [name for name in names if one.id not in name]


def test_failed_rows_are_left_in_their_files(sweep: tuple[Storage, SweepPlan]) -> None:
    storage, plan = sweep
    one: TrajectoryPlan = plan.trajectories[0]
    failed = Score("efficacy", "argmax", None, None, 0, 0, 0, "failed", True, None, None, reason="raised")
    data = encode_rows(shared(one, 20, QUALITY), [failed, score("score", "argmax", 0.5)])
    storage.write_bytes(one.rows_path(20, QUALITY), data)
    assert not [name for name in compacted(storage, plan) if one.id in name]


def test_an_unfinished_trajectory_is_not_compacted_and_its_new_rows_appear(sweep: tuple[Storage, SweepPlan]) -> None:
    storage, plan = sweep
    longer = plan.trajectories[0].model_copy(update={"wanted": (10, 20, 30, 40, 50), "edits": 50})
    changed = plan.model_copy(update={"trajectories": (longer, *plan.trajectories[1:])})
    storage.write_bytes("plan.json", changed.model_dump_json().encode())
    assert not [name for name in compacted(storage, changed) if longer.id in name]
    put_checkpoint(storage, longer, 50)
    put_scores(storage, longer, 50, 0.25, 0.25)
    edits = api.open_sweep(root=storage.uri).sql(
        f"SELECT max(edits) AS m FROM scores WHERE trajectory_id = '{longer.id}'"
    )
    assert edits.to_pylist() == [{"m": 50}]


def test_a_damaged_row_file_is_named_and_never_compacted_away(
    sweep: tuple[Storage, SweepPlan], caplog: pytest.LogCaptureFixture
) -> None:
    storage, plan = sweep
    one, before = plan.trajectories[0], answer(Path(storage.uri))
    path = one.rows_path(20, QUALITY)
    whole = storage.read_bytes(path)
    storage.write_bytes(path, whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        assert not [name for name in compacted(storage, plan) if one.id in name]
        assert path in caplog.text
        caplog.clear()
        assert answer(Path(storage.uri)).num_rows < before.num_rows
        assert path in caplog.text
    # Made again under its name: nothing remembers the rows that were missing.
    storage.write_bytes(path, whole)
    assert answer(Path(storage.uri)).equals(before)


def test_a_damaged_compacted_file_takes_no_rows_away(
    sweep: tuple[Storage, SweepPlan], caplog: pytest.LogCaptureFixture
) -> None:
    storage, plan = sweep
    before = answer(Path(storage.uri))
    for name in compacted(storage, plan)[:2]:
        data = bytearray(storage.read_bytes(name))
        data[len(data) // 2] ^= 1
        storage.write_bytes(name, bytes(data))
    assert answer(Path(storage.uri)).equals(before)
    assert caplog.text.count("is damaged") == 2


def test_one_trajectory_is_compacted_as_all_of_them_are(sweep: tuple[Storage, SweepPlan]) -> None:
    storage, plan = sweep
    one, few = plan.trajectories[0], plan.trajectories[1]
    name = compact_trajectory(storage, one, one.wanted)
    data = storage.read_bytes(str(name))
    assert compact_trajectory(storage, few, few.wanted[:2]) is None
    assert name in compacted(storage, plan)
    assert storage.read_bytes(str(name)) == data
    storage.delete("compacted")
    path = plan.trajectories[2].rows_path(20, QUALITY)
    storage.write_bytes(path, storage.read_bytes(path)[:-10])
    assert compact_trajectory(storage, plan.trajectories[2], one.wanted) is None


def test_what_is_computed_afresh_is_read_from_its_new_row_files(sweep: tuple[Storage, SweepPlan]) -> None:
    storage, plan = sweep
    one = plan.trajectories[0]
    others = [name for name in compacted(storage, plan) if one.id not in name]
    twins = [twin for twin in plan.trajectories if twin.title == one.title]
    stored = {path: storage.read_bytes(path) for path in storage.list() if any(twin.id in path for twin in twins)}
    assert forget_method(storage, plan, one.title) == len(twins)
    assert storage.list("compacted") == [name for name in others if not any(twin.id in name for twin in twins)]
    for path, data in stored.items():
        if not path.startswith("compacted/"):
            storage.write_bytes(path, data)
    changed = one.rows_path(20, QUALITY)
    storage.write_bytes(changed, encode_rows(shared(one, 20, QUALITY), [score("efficacy", "argmax", 0.015625)]))
    found = api.open_sweep(root=storage.uri).sql("SELECT count(*) AS n FROM scores WHERE value = 0.015625")
    assert found.to_pylist() == [{"n": 1}]
