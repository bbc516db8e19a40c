"""The command line: help, errors that fit a screen, tables, and a sweep on an object store."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_line import sphere, squeezed
from repository import REPOSITORY
from sweep_files import results_of, tiny, write_sweep

from workflows.cli import COMMANDS

PUBLISHED: dict[str, Any] = {
    "source": "a paper",
    "model": "factworld",
    "dataset": "factworld",
    "edits": 6,
    "protocol": "argmax",
    "metrics": ["efficacy", "specificity"],
    "values": {"memit": [0.25, None], "rome": [0.5, 0.5]},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sweep that has been run, and its root."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_sweep(folder, tiny(seeds=[0], methods=["memit"], published=[PUBLISHED]))
    with pytest.MonkeyPatch.context() as patch:
        assert sphere(patch, "run", path, "--local", "--root", folder / "root") == 0
    return path, folder / "root"


def test_help_names_every_command_without_loading_any() -> None:
    code = (
        "import sys\nfrom workflows.cli import main\nsys.argv = ['sphere', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'ray', 'lm_eval', 'duckdb'} & set(sys.modules)\n"
        "sys.exit(f'help loads {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)
    assert "sphere run sweep.yaml" in done.stdout


@pytest.mark.parametrize(
    "name", [*COMMANDS, "moments build", "moments list", "moments compare", "factworld train", "serac train"]
)
def test_every_command_has_help_with_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert sphere(monkeypatch, *name.split(), "--help") == 0
    text = capsys.readouterr().out
    if name not in ("moments", "factworld", "serac"):
        assert "Example" in text
        assert f"sphere {name}" in text
    named = re.findall(r"examples/\w+\.yaml", text)
    assert [path for path in named if not (REPOSITORY / path).is_file()] == []


def test_published_numbers_stand_beside_ours(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = finished
    assert sphere(monkeypatch, "table", root, "--published") == 0
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    memit, *rome = [line for line in lines if line[:1] == ["factworld"]]
    assert memit[2:6] == ["memit", "6", "efficacy (argmax)", "0.250"]
    assert float(memit[7]) == pytest.approx(float(memit[6]) - 0.25)
    assert [line[6:] for line in rome] == [["not yet", "–"]] * 2


def test_status_and_table_need_neither_torch_nor_ray(finished: tuple[Path, Path]) -> None:
    for command in ("status", "table"):
        code = (
            f"import sys\nfrom workflows.cli import main\nsys.argv = ['sphere', {command!r}, {str(finished[1])!r}]\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
            "heavy = {'torch', 'transformers', 'ray', 'lm_eval'} & set(sys.modules)\n"
            "sys.exit(f'loads {heavy}' if heavy else 0)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        # Nothing but the answer: libraries complain at the end where objects are kept from them.
        assert (done.returncode, done.stderr) == (0, "")
        assert "memit" in done.stdout


def test_an_unknown_command_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert sphere(monkeypatch, "rum") == 2
    assert "rum" in capsys.readouterr().err


def test_an_unknown_task_is_refused_where_it_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "tasks", "edit_boolq") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "unknown task 'edit_boolq' where: sphere tasks NAME remedy:" in said
    assert "--include-path" in said


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"methodz": []}, ["unknown key 'methodz'", "did you mean 'methods'?", "sweep.yaml"]),
        ({"methods": ["memti"]}, ["unknown method 'memti'", "did you mean 'memit'?"]),
        (
            {"models": [{"source": "./nowhere", "dtype": "float32", "preset": "factworld"}]},
            ["models[0]", "nowhere", "check the path, or give a hub id"],
        ),
        ({"methods": [{"name": "memit", "hyperparameters": {"layers": [7]}}]}, ["layer 7 is out of range", "0 to 3"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_wrong_input_is_one_screen_exit_code_2_and_nothing_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    changes: dict[str, Any],
    expected: list[str],
) -> None:
    path = write_sweep(tmp_path, tiny(**changes))
    monkeypatch.chdir(tmp_path)
    assert sphere(monkeypatch, command, path) == 2
    error = capsys.readouterr().err
    for text in expected:
        assert squeezed(text) in squeezed(error)
    assert "Traceback" not in error
    assert len(error.splitlines()) < 24
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.yaml"]


def test_plan_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, tiny())
    monkeypatch.chdir(tmp_path)
    assert sphere(monkeypatch, "plan", path) == 0
    assert "4 planned" in capsys.readouterr().out
    assert sphere(monkeypatch, "plan", path, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["trajectories"]) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.yaml"]


def test_a_finished_sweep_says_so_and_adds_nothing(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, root = finished
    before = results_of(root)
    # Without --local: Ray would be started if anything were left to do.
    assert sphere(monkeypatch, "run", path, "--root", root) == 0
    text = capsys.readouterr().out
    assert "everything is done" in text
    assert "starting Ray" not in text
    assert "| memit " in text
    assert f"rows: {root}/rows" in text
    assert results_of(root) == before


def test_tables_in_three_formats(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = finished
    assert sphere(monkeypatch, "table", root) == 0
    assert "| (unedited) |" in capsys.readouterr().out
    assert sphere(monkeypatch, "table", root, "--by", "edits", "--format", "csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1 + 2
    assert sphere(monkeypatch, "table", root, "--format", "parquet") == 2
    assert sphere(monkeypatch, "table", root, "--format", "parquet", "--out", tmp_path / "t.parquet") == 0
    assert pq.read_table(tmp_path / "t.parquet").column("method").to_pylist() == ["(unedited)", "memit"]
    assert sphere(monkeypatch, "table", tmp_path) == 2


def test_failures_end_with_code_1_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless = {"nullspace_share": None, "nullspace_threshold": 1e-30}
    methods = ["memit", {"name": "alphaedit", "hyperparameters": hopeless}]
    path = write_sweep(tmp_path, tiny(seeds=[0], methods=methods, evaluators={"geometry": {}}))
    arguments = ("run", path, "--local", "--root", tmp_path / "root")
    assert sphere(monkeypatch, *arguments) == 1
    text = capsys.readouterr().out
    assert "failures (1)" in text
    assert "threshold" in text
    assert "| memit " in text
    assert sphere(monkeypatch, *arguments) == 1
    first = next((tmp_path / "root").glob("trajectories/*/error.json"))
    stamp = first.stat().st_mtime_ns
    assert sphere(monkeypatch, *arguments, "--retry-failed") == 1
    assert first.stat().st_mtime_ns > stamp


def test_a_sweep_on_an_object_store_gives_the_same_bytes(
    finished: tuple[Path, Path],
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, root = finished
    url = f"{bucket}/sweeps/tiny"
    assert sphere(monkeypatch, "run", path, "--local", "--root", url) == 0
    assert results_of(url) == results_of(root) != {}
    for command in ("table", "status"):
        capsys.readouterr()
        assert sphere(monkeypatch, command, root) == 0
        local = capsys.readouterr().out
        assert sphere(monkeypatch, command, url) == 0
        shown = capsys.readouterr().out
        assert "memit" in shown
        if command == "table":
            assert shown == local
    assert sphere(monkeypatch, "plan", path, "--root", url) == 0
    assert "everything is done" in capsys.readouterr().out
    assert sphere(monkeypatch, "run", path, "--local", "--root", "s3://no-such-bucket/tiny") == 2
    assert "the storage cannot be written" in capsys.readouterr().err
