"""What `sphere status` shows, once and again and again, from files alone."""

import io
import itertools
import json
import threading
import time
from pathlib import Path

import pytest
from local_runs import FaultyFiles
from rich.console import Console
from store_parts import QUALITY, put_checkpoint, put_scores, trajectory
from waiting import wait_until

from sphere_core.foundation.storage import Storage
from sphere_core.foundation.work_progress import Position
from workflows.commands.status import status
from workflows.results.status.latest_scores import LastScores
from workflows.results.status.status import MOST_LINES, status_panel, status_records
from workflows.results.status.watch import watch
from workflows.store.layout import PLAN_FILE, error_path, progress_path, task_progress_path
from workflows.store.plan import SweepPlan
from workflows.store.records import Progress, TaskProgress
from workflows.store.state import derive_state


def text_of(plan: SweepPlan, storage: Storage) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(status_panel(plan, derive_state(storage, plan), LastScores(storage)))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def test_rate_time_left_and_the_newest_scores(storage: Storage) -> None:
    plan = trajectory("memit", 0)
    put_checkpoint(storage, plan, 4)
    put_scores(storage, plan, 4, 0.75, 0.9)
    record = {"state": "running", "edits": 6, "edits_per_second": 0.5, "at": time.time()}
    storage.write_bytes(progress_path(plan.id), json.dumps(record).encode())
    failed = trajectory("rome", 0)
    storage.write_bytes(error_path(failed.id), json.dumps({"task": "t", "error": "E", "message": "why"}).encode())
    sweep = SweepPlan(name="s", trajectories=(plan, failed), bases=(), recipes=())
    state = derive_state(storage, sweep)
    first, second = status_records(state, LastScores(storage))
    assert (first["state"], first["edits"], first["seconds_left"]) == ("running", 6, 4.0)
    assert first["scores"] == {
        "score": {"edits": 4, "value": 0.75, "collapsed": False},
        "HE drift": {"edits": 4, "value": 0.04, "collapsed": False},
    }
    assert (second["state"], second["error"]["message"]) == ("failed", "why")
    text = text_of(sweep, storage)
    for shown in ("0.750", "\t0.040", "6/8", "4 s", "failures (1)", "E: why", "0.5 edits/s, all edited in 4 s"):
        assert shown in text


def test_how_far_a_batch_and_a_build_are_and_what_no_longer_moves(storage: Storage) -> None:
    plan, still = trajectory("memit", 0), trajectory("rome", 0)
    now, within = time.time(), Position("targets", 3, 32, "requests")
    moving = Progress(state="running", edits=4, of=8, at=now, moved=now - 2, within=within)
    moving.write(storage, progress_path(plan.id))
    hung = moving.model_copy(update={"moved": now - 600, "within": Position("writing", 1, 5, "layers")})
    hung.write(storage, progress_path(still.id))
    build = TaskProgress(
        title="second moments of layers 2, 3", within=Position("second moments", 40, 90, "texts"), at=now
    )
    build.write(storage, task_progress_path("moments-1"))
    build.model_copy(update={"at": now - 6000}).write(storage, task_progress_path("moments-of-a-dead-process"))
    sweep = SweepPlan(name="s", trajectories=(plan, still), bases=(), recipes=())
    text = text_of(sweep, storage)
    assert "targets 3/32 requests\t" in text
    assert "writing 1/5 layers, no progress for 10 min 00 s" in text
    assert text.count("second moments of layers 2, 3: second moments 40/90 texts, 0 s ago") == 1
    first, _ = status_records(derive_state(storage, sweep), LastScores(storage))
    assert first["in_hand"] == {"stage": "targets", "done": 3, "of": 32, "unit": "requests"}
    moving.model_copy(update={"state": "stopped"}).write(storage, progress_path(plan.id))
    assert "targets" not in text_of(sweep, storage)


def test_many_trajectories_are_shown_by_group(storage: Storage) -> None:
    plans = tuple(trajectory(f"m{i % 2}", i, id=f"{i:016d}") for i in range(MOST_LINES + 2))
    put_checkpoint(storage, plans[0], 4)
    text = text_of(SweepPlan(name="s", trajectories=plans, bases=(), recipes=()), storage)
    assert len(text.splitlines()) < 20
    assert "100 planned, 1 paused" in text


def test_row_files_are_read_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = trajectory("memit", 0)
    put_checkpoint(storage, plan, 4)
    put_scores(storage, plan, 4, None, None)
    scores = LastScores(storage)
    found = derive_state(storage, SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=())).trajectories[0]
    assert scores.of(found)["score"].measured().word == "collapsed"
    monkeypatch.setattr(Storage, "read_bytes", lambda *_: pytest.fail("read again"))
    assert scores.of(found)["score"].measured().word == "collapsed"


def test_a_row_file_that_has_just_gone_is_no_score_yet(storage: Storage) -> None:
    plan = trajectory("memit", 0)
    put_checkpoint(storage, plan, 4)
    put_scores(storage, plan, 4, 0.5, 0.5)
    sweep = SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=())
    found = derive_state(storage, sweep).trajectories[0]
    storage.delete(plan.rows_path(4, QUALITY))
    scores = LastScores(storage)
    assert set(scores.of(found)) == {"HE drift"}
    put_scores(storage, plan, 4, 0.25, 0.5)
    assert scores.of(found)["score"].value == 0.25


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_ends_when_all_is_done(storage: Storage, terminal: bool) -> None:
    plan = trajectory("memit", 0)
    sweep = SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=())
    console = Console(file=io.StringIO(), width=160, force_terminal=terminal)

    def finish() -> None:
        wait_until(console.file.getvalue)  # type: ignore[attr-defined]
        for edits in (4, 8):
            put_checkpoint(storage, plan, edits)
            put_scores(storage, plan, edits, 0.5, 0.5)

    worker = threading.Thread(target=finish)
    worker.start()
    watch(storage, sweep, console, seconds=0.02)
    worker.join()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 done" in text
    if not terminal:
        lines = text.splitlines()
        assert "1 planned; 0/8 edits" in lines[0]
        assert "1 done; 8/8 edits; 0 scores" in lines[-1]


def test_status_as_json(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    plan = trajectory("memit", 0)
    sweep = SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=())
    storage.write_bytes(PLAN_FILE, sweep.model_dump_json().encode())
    status(storage.uri, watch=False, every=1.0, as_json=True)
    record = json.loads(capsys.readouterr().out)
    assert (record["complete"], [t["state"] for t in record["trajectories"]]) == (False, ["planned"])


def test_far_away_files_are_read_many_at_a_time(storage: Storage) -> None:
    plans = tuple(trajectory("memit", seed) for seed in range(40))
    sweep = SweepPlan(name="s", trajectories=plans, bases=(), recipes=())
    FaultyFiles.store.clear()
    far = Storage("faulty://far")
    for plan in plans:
        for place in (storage, far):
            put_checkpoint(place, plan, 4)
            place.write_bytes(progress_path(plan.id), json.dumps({"state": "stopped", "edits": 6, "at": 1.0}).encode())
    # The first four reads each wait for the other three: one at a time would break the barrier.
    together, readers = threading.Barrier(4, timeout=600), itertools.count()

    def dwell(call: str) -> None:
        if call == "read" and next(readers) < 4:
            together.wait()

    FaultyFiles.fault = staticmethod(dwell)
    try:
        seen = derive_state(far, sweep)
    finally:
        FaultyFiles.fault = staticmethod(lambda _: None)
    assert not together.broken
    assert seen == derive_state(storage, sweep)
