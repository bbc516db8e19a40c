"""Records on disk: the bytes of the first release, and what a damaged or partial file means to its reader."""

import json
from pathlib import Path

import pytest
from store_parts import put_checkpoint, trajectory

from sphere_core.foundation.storage import Storage
from sphere_core.foundation.work_progress import Position
from workflows.store.layout import error_path, progress_path, stopped_path, task_error_path
from workflows.store.plan import SweepPlan, TrajectoryPlan
from workflows.store.policies import Watchdog
from workflows.store.records import AttemptRecord, EditTiming, Failure, Progress, ScoreTiming, Stop, TaskProgress
from workflows.store.retry import forget_failures
from workflows.store.state import SweepState, TrajectoryState, derive_state

FAILED = Failure(task="trajectory-t", error="E", message="m", edits=None, traceback="T\n")
# Each record, and the bytes that commit 6a9c9d0 wrote for it.
ON_DISK = [
    (
        Progress(state="running", edits=2, of=8, edits_per_second=1.5, attempt=3, owner="n:1", at=4.25),
        b'{"state": "running", "edits": 2, "of": 8, "edits_per_second": 1.5, "attempt": 3, "owner": "n:1", "at": 4.25}',
    ),
    (
        FAILED,
        b'{\n "task": "trajectory-t",\n "error": "E",\n "message": "m",\n "edits": null,\n "traceback": "T\\n"\n}',
    ),
    (
        FAILED.model_copy(update={"edits": 4, "redo": ("rows/a", "details/b")}),
        b'{\n "task": "trajectory-t",\n "error": "E",\n "message": "m",\n "edits": 4,\n "traceback": "T\\n",\n'
        b' "redo": [\n  "rows/a",\n  "details/b"\n ]\n}',
    ),
    (
        Stop(edits=4, reason="r", watchdog=Watchdog(he_drift=0.5)),
        b'{\n "edits": 4,\n "reason": "r",\n "watchdog": {\n  "he_drift": 0.5,\n  "collapsed_checkpoints": null\n }\n}',
    ),
    (
        AttemptRecord(first=4, standing=6, before=5, owner="node:1", at=1.0),
        b'{"from": 4, "standing": 6, "before": 5, "owner": "node:1", "at": 1.0}',
    ),
    (
        EditTiming(edits=8, attempt=1, seconds=0.25, edits_in_lap=4),
        b'{"edits": 8, "attempt": 1, "seconds": 0.25, "edits_in_lap": 4}',
    ),
    (ScoreTiming(seconds=0.5, rows=96), b'{"seconds": 0.5, "rows": 96}'),
    (
        TaskProgress(title="t", within=Position("second moments", 3, 9, "texts"), at=4.25),
        b'{"title": "t", "within": {"stage": "second moments", "done": 3, "of": 9, "unit": "texts"}, "at": 4.25}',
    ),
]
BROKEN = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\x80",
    b'{"edits": "many", "state": 3}',
    b'{"edits": {}}',
    b'{"state": "resting"}',
]


@pytest.mark.parametrize(("record", "data"), ON_DISK)
def test_bytes_are_those_of_the_first_release(tmp_path: Path, record: Progress, data: bytes) -> None:
    storage = Storage(tmp_path)
    record.write(storage, "record.json")
    assert storage.read_bytes("record.json") == data
    assert type(record).read(storage, "record.json") == record


@pytest.mark.parametrize(("record", "data"), ON_DISK)
def test_a_key_of_a_later_release_is_ignored(tmp_path: Path, record: Progress, data: bytes) -> None:
    Storage(tmp_path).write_bytes("record.json", json.dumps({**json.loads(data), "new": [1]}).encode())
    assert type(record).read(Storage(tmp_path), "record.json") == record


@pytest.mark.parametrize("kind", [Progress, Failure, Stop, AttemptRecord, EditTiming, ScoreTiming])
@pytest.mark.parametrize("data", [None, *BROKEN])
def test_what_is_missing_or_damaged_is_none(tmp_path: Path, kind: type[Progress], data: bytes | None) -> None:
    if data is not None:
        Storage(tmp_path).write_bytes("record.json", data)
    assert kind.read(Storage(tmp_path), "record.json") is None


def state_of(storage: Storage, plan: TrajectoryPlan) -> SweepState:
    return derive_state(storage, SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=()))


def one(storage: Storage, plan: TrajectoryPlan) -> TrajectoryState:
    return state_of(storage, plan).trajectories[0]


@pytest.mark.parametrize("data", BROKEN)
def test_a_damaged_record_does_not_end_a_look_at_a_sweep(tmp_path: Path, data: bytes) -> None:
    storage, plan = Storage(tmp_path), trajectory("memit", 0)
    put_checkpoint(storage, plan, 4)
    storage.write_bytes(progress_path(plan.id), data)
    storage.write_bytes(stopped_path(plan.id), data)
    assert (one(storage, plan).state, one(storage, plan).edits_done) == ("paused", 4)
    storage.write_bytes(error_path(plan.id), data)
    found = one(storage, plan)
    assert found.state == "failed"
    assert found.error is not None
    assert (found.error.task, found.error.error) == (f"trajectory-{plan.id}", "UnreadableRecord")
    assert error_path(plan.id) in found.error.message


@pytest.mark.parametrize("data", BROKEN)
def test_a_task_whose_record_is_damaged_can_be_tried_again(tmp_path: Path, data: bytes) -> None:
    storage, plan = Storage(tmp_path), trajectory("memit", 0)
    storage.write_bytes(task_error_path("moments-a"), data)
    state = state_of(storage, plan)
    assert [(failure.task, failure.error) for failure in state.failures] == [("moments-a", "UnreadableRecord")]
    sweep = SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=())
    assert forget_failures(storage, sweep, state, only=["moments-a"]) == ["moments-a"]
    assert state_of(storage, plan).failures == []
