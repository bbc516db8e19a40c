"""A root belongs to one sweep: another is refused before a byte is written; what an earlier plan left is shown."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import sphere
from sweep_files import results_of, tiny, with_fewer_steps, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.results.sweep_directory import open_sweep
from workflows.store.layout import PLAN_FILE, trajectory_folder
from workflows.store.plan import read_plan
from workflows.store.root_owner import earlier_line, require_own_root
from workflows.sweeps.expand import Sweep, load_sweep
from workflows.sweeps.publish import publish

BOTH = {"seeds": [0], "methods": with_fewer_steps("memit", "memit+rect"), "evaluators": {"geometry": {}}}


@pytest.fixture
def root(sweep: Sweep, undisturbed: Path, tmp_path: Path) -> Path:
    """The root of a complete sweep of two trajectories, with its plan."""
    shutil.copytree(undisturbed, tmp_path / "root")
    publish(sweep, Storage(tmp_path / "root"))
    return tmp_path / "root"


def bytes_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"name": "other"}, "belongs to the sweep 'tiny', not to 'other'"),
        ({"methods": with_fewer_steps("memit")}, "1 of its 2 trajectories are not in this sweep file"),
        ({"seeds": [1]}, "2 of its 2 trajectories"),
        ({"batch_size": 1}, "2 of its 2 trajectories"),
        ({"streams": [{"dataset": "factworld", "edits": 4, "order": "shuffled"}]}, "2 of its 2 trajectories"),
    ],
)
def test_another_sweep_is_refused_and_nothing_is_written(
    root: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = bytes_below(root)
    path = write_sweep(tmp_path / "other", tiny(**{**BOTH, **changes}))
    assert sphere(monkeypatch, "run", path, "--local", "--root", root) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert what in said
    assert "--replace" in said
    assert bytes_below(root) == before


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"methods": with_fewer_steps("memit+rect", "memit", "alphaedit")},
        {"seeds": [0, 1]},
        {"evaluators": {"geometry": {}, "edit_quality": {}}},
        {"watchdog": {"he_drift": 0.5}},
    ],
)
def test_a_sweep_may_grow(root: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    grown = load_sweep(write_sweep(tmp_path / "grown", tiny(**{**BOTH, **changes})))
    require_own_root(Storage(root), grown.plan)


def test_a_replaced_plan_keeps_what_is_stored_and_shows_it(
    root: Path, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, (gone,) = results_of(root), [one.id for one in sweep.plan.trajectories if one.method == "memit+rect"]
    path = write_sweep(tmp_path / "one", tiny(**{**BOTH, "methods": with_fewer_steps("memit")}))
    assert sphere(monkeypatch, "run", path, "--local", "--root", root, "--replace") == 0
    assert results_of(root) == kept
    assert [one.method for one in read_plan(Storage(root)).trajectories] == ["memit"]
    # The root is now this sweep's.
    assert sphere(monkeypatch, "run", path, "--local", "--root", root) == 0
    for command in ("status", "gc"):
        capsys.readouterr()
        assert sphere(monkeypatch, command, root) == 0
        said = "".join(capsys.readouterr().out.split())
        assert f"keptandleftoutoftablesandviews:1({trajectory_folder(gone)})" in said
        assert sphere(monkeypatch, command, root, "--json") == 0
        assert json.loads(capsys.readouterr().out)["earlier_trajectories"] == [gone]
    assert results_of(root) == kept
    directory = open_sweep(root=str(root))
    for view in ("trajectories", "geometry"):
        assert gone not in directory.view(view)["trajectory_id"].to_pylist()


def test_a_damaged_plan_names_no_sweep(root: Path, tmp_path: Path) -> None:
    (root / PLAN_FILE).write_text("{")
    other = load_sweep(write_sweep(tmp_path / "other", tiny(**{**BOTH, "name": "other"})))
    require_own_root(Storage(root), other.plan)


def test_many_earlier_trajectories_are_one_line() -> None:
    line = earlier_line(tuple(f"{number:012d}" for number in range(40)))
    assert "40 (trajectories/000000000000, " in line
    assert "and 35 more)" in line
