"""Which checkpoints stay whole, what `sphere gc` removes, and what `sphere retry` clears."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from local_runs import run
from pydantic import ValidationError
from store_parts import trajectory
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.cli import main
from workflows.store.driver_lock import DriverLock
from workflows.store.garbage import collect, find_garbage
from workflows.store.layout import PLAN_FILE, checkpoints_folder
from workflows.store.policies import Keep
from workflows.store.retry import forget_failures
from workflows.store.state import derive_state, scan
from workflows.store.trimming import trimmable
from workflows.sweeps.expand import load_sweep


def keep(text: str) -> Keep:
    return Keep.model_validate(text)


def test_policies_are_read_and_anything_else_is_refused() -> None:
    assert [keep(text).text for text in ("all", "last 3", "every 500")] == ["all", "last 3", "every 500"]
    for wrong in ("last", "last 0", "every -1", "some"):
        with pytest.raises(ValidationError, match="none of `all`"):
            keep(wrong)


PLAN = trajectory("memit", 0, edits=12, wanted=(2, 4, 6, 8, 10, 12))


@pytest.mark.parametrize(
    ("text", "published", "edited", "unscored", "expected"),
    [
        ("all", (2, 4, 6, 8, 10, 12), True, (), []),
        ("last 1", (2, 4, 6, 8, 10, 12), True, (), [2, 4, 6, 8, 10]),
        ("last 3", (2, 4, 6, 8, 10, 12), True, (), [2, 4, 6]),
        ("every 4", (2, 4, 6, 8, 10, 12), True, (), [2, 6, 10]),
        # While the trajectory runs, two stay to resume from.
        ("last 1", (2, 4, 6, 8), False, (), [2, 4]),
        # What is not scored stays, and the one before it, which it may be compared with.
        ("last 1", (2, 4, 6, 8, 10, 12), True, (6,), [2, 8, 10]),
        ("last 1", (2,), False, (), []),
    ],
)
def test_what_nothing_needs_any_more(
    text: str, published: tuple[int, ...], edited: bool, unscored: tuple[int, ...], expected: list[int]
) -> None:
    found = trimmable(PLAN, keep(text), published, edited=edited, scored=lambda edits: edits not in unscored)
    assert found == expected


def test_a_sweep_that_keeps_the_last_has_the_same_rows_and_can_be_scored_anew(tmp_path: Path) -> None:
    settings = tiny(seeds=[0], methods=["memit"], checkpoint_every=2, evaluators={"geometry": {}})
    whole = load_sweep(write_sweep(tmp_path / "a", settings))
    lean = load_sweep(write_sweep(tmp_path / "b", {**settings, "keep": "last 1"}))
    assert [plan.id for plan in lean.plan.trajectories] == [plan.id for plan in whole.plan.trajectories]
    run(whole, tmp_path / "whole")
    assert run(lean, tmp_path / "lean").complete
    everything, left = results_of(tmp_path / "whole"), results_of(tmp_path / "lean")
    assert left == {
        name: data
        for name, data in everything.items()
        if name.startswith("rows/") or name.endswith("manifest.json") or "/000006/" in name
    }
    assert run(lean, tmp_path / "lean").complete
    # gc finds nothing that the run has not removed; on the other root it removes the same.
    for root, expected in (("lean", 0), ("whole", 4)):
        storage = Storage(tmp_path / root)
        files = scan(storage)
        garbage = find_garbage(storage, lean.plan, derive_state(storage, lean.plan, files), files)
        assert len(garbage) == expected
        collect(storage, garbage)
    assert results_of(tmp_path / "whole") == left


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    sweep = load_sweep(write_sweep(tmp_path / "spec", tiny(seeds=[0], methods=["memit"], evaluators={"geometry": {}})))
    root = tmp_path / "root"
    run(sweep, root)
    (root / PLAN_FILE).write_text(sweep.plan.model_dump_json(), encoding="utf-8")
    return root


def sphere(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["sphere", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_gc_removes_leftovers_and_says_how_much(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results_of(finished)
    folder = next(finished.glob("trajectories/*/checkpoints"))
    old, young = folder / "000004" / ".weights.safetensors.7.ab.tmp", folder / ".manifest.json.8.cd.tmp"
    for path in (old, young):
        path.write_bytes(b"x" * 2000)
    os.utime(old, (time.time() - 3600,) * 2)
    shutil.copytree(folder / "000004", folder / "000005", ignore=shutil.ignore_patterns("manifest.json", ".*"))
    shutil.copytree(folder / "000004", folder / "000002", ignore=shutil.ignore_patterns(".*"))
    (finished / "moments" / "0123456789abcdef.safetensors").write_bytes(b"x" * 3000)
    with DriverLock(Storage(finished)).acquire():
        # A look takes no lock: it works beside a driver, and on a root that cannot be written.
        there = sorted(finished.rglob("*"))
        assert sphere(monkeypatch, "gc", finished, "--dry-run") == 0
        assert sorted(finished.rglob("*")) == there
        text = capsys.readouterr().out
        assert sphere(monkeypatch, "gc", finished) == 2
        assert "another driver works on this sweep" in capsys.readouterr().err
    assert "would be removed: 7 files" in text
    for shown in ("scratch of killed writers", "2.0 kB", "checkpoints of a stop", "no attempt has finished", "3.0 kB"):
        assert shown in text
    assert old.exists()
    assert sphere(monkeypatch, "gc", finished) == 0
    assert "removed: 7 files" in capsys.readouterr().out
    assert not old.exists()
    assert young.exists()
    young.unlink()
    assert results_of(finished) == before
    assert sphere(monkeypatch, "gc", finished) == 0
    assert "removed: 0 files" in capsys.readouterr().out


def test_retry_clears_failures_and_keeps_what_was_said(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = Storage(finished)
    folder = next(finished.glob("trajectories/*"))
    name = folder.name
    for _ in range(2):
        shutil.rmtree(finished / checkpoints_folder(name), ignore_errors=True)
        (folder / "error.json").write_text(json.dumps({"task": f"trajectory-{name}", "error": "E", "traceback": "T"}))
        assert sphere(monkeypatch, "retry", finished, "--id", "nobody") == 2
        assert "has not failed" in capsys.readouterr().err
        assert sphere(monkeypatch, "retry", finished) == 2
        assert sphere(monkeypatch, "retry", finished, "--id", name) == 0
        assert f"cleared: {name}" in capsys.readouterr().out
    assert [json.loads(path.read_text())["traceback"] for path in sorted(folder.glob("retried/error-?.json"))] == [
        "T",
        "T",
    ]
    storage.write_bytes("rows/general/y.parquet", b"rows without that part")
    task = {"task": "geometry x", "error": "E", "message": "m", "redo": ["rows/general/y.parquet"]}
    storage.write_bytes("errors/geometry-x.json", json.dumps(task).encode())
    plan = load_sweep(finished.parent / "spec" / "sweep.yaml").plan
    state = derive_state(storage, plan)
    assert [failure.task for failure in state.failures] == ["geometry x"]
    with pytest.raises(InputError, match="has not failed"):
        forget_failures(storage, plan, state, only=["geometry-y"])
    assert forget_failures(storage, plan, state) == ["geometry x"]
    assert not storage.exists("rows/general/y.parquet")
    assert derive_state(storage, plan).failures == []
    assert storage.exists("errors/retried/geometry-x-1.json")
