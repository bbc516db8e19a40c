"""Two sweeps: equal cells are counted, others listed, and what differed is named."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import sphere
from figure_parts import LAST, drawn_sweep
from store_parts import QUALITY, score, shared

from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.comparison import SweepComparison, compare_sweeps
from workflows.store.layout import scored_name, spec_path, timing_path
from workflows.store.plan import read_plan
from workflows.store.row_reader import read_rows


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared") / "first"
    drawn_sweep(folder)
    return folder


@pytest.fixture
def second(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "second")
    return tmp_path / "second"


def compared(*roots: Path) -> SweepComparison:
    return compare_sweeps(*(SweepRoot.of(Storage(root), read_plan(Storage(root))) for root in roots))


def cells_of(root: Path) -> int:
    """Return how many rows of edited checkpoints are not of one site."""
    rows = read_rows(Storage(root), read_plan(Storage(root))).to_pylist()
    return sum(row["trajectory_id"] is not None and row["site"] is None for row in rows)


def test_equal_sweeps_have_nothing_to_list(first: Path, second: Path) -> None:
    found = compared(first, second)
    assert found.equal == cells_of(first) > 500
    assert (found.cells.num_rows, found.only_first, found.only_second, found.differences.num_rows) == (0, 0, 0, 0)


def test_a_changed_number_and_what_changed_it_are_named(first: Path, second: Path) -> None:
    storage = Storage(second)
    one = read_plan(storage).trajectories[3]
    data = encode_rows(shared(one, LAST, QUALITY), [score("efficacy", "argmax", 0.25), score("new", "argmax", 1.0)])
    storage.write_bytes(one.rows_path(LAST, QUALITY), data)
    spec = json.loads(storage.read_bytes(spec_path(one.id)))
    spec["hyperparameters"]["strength"] = 0.75
    storage.write_bytes(spec_path(one.id), json.dumps(spec).encode())
    lap = json.dumps({"edits": LAST, "attempt": 1, "seconds": 1.0, "edits_in_lap": 10, "device": "card"})
    storage.write_bytes(timing_path("edit", scored_name(one.id, LAST)), lap.encode())
    found = compared(first, second)
    assert [(row["metric"], row["second"], row["same_trajectory"]) for row in found.cells.to_pylist()] == [
        ("efficacy", 0.25, True)
    ]
    assert (found.only_first, found.only_second) == (3, 1)
    differences = {(row["kind"], row["field"]): row for row in found.differences.to_pylist()}
    assert (differences["spec", "hyperparameters.strength"]["second"]) == "0.75"
    assert differences["work", "device"]["second"] == "card"
    assert len(differences) == 2


def test_the_command_prints_every_form(
    first: Path, second: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert sphere(monkeypatch, "compare", first, second) == 0
    assert capsys.readouterr().out.startswith(f"{cells_of(first)} cells equal, 0 with other numbers")
    assert sphere(monkeypatch, "compare", first, second, "--json") == 0
    assert json.loads(capsys.readouterr().out)["equal"] == cells_of(first)
    assert sphere(monkeypatch, "compare", first, second, "--table", "differences", "--out", tmp_path / "d.csv") == 0
    assert (tmp_path / "d.csv").read_text() == "kind,trajectory,field,first,second,count\n"
    assert sphere(monkeypatch, "compare", first, tmp_path) == 2
