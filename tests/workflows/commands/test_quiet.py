"""`sphere run --quiet`: problems alone, on standard error."""

from pathlib import Path

import pytest
from command_line import sphere
from sweep_files import results_of, tiny, write_sweep


def test_a_quiet_run_without_a_problem_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, root = write_sweep(tmp_path, tiny(seeds=[0], methods=["memit"], evaluators={"geometry": {}})), tmp_path / "at"
    for _ in range(2):
        assert sphere(monkeypatch, "run", path, "--local", "--root", root, "--quiet") == 0
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "")
    assert results_of(root) != {}


def test_a_quiet_run_prints_what_failed_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless = {"nullspace_share": None, "nullspace_threshold": 1e-30}
    methods = ["memit", {"name": "alphaedit", "hyperparameters": hopeless}]
    path = write_sweep(tmp_path, tiny(seeds=[0], methods=methods, evaluators={"geometry": {}}))
    assert sphere(monkeypatch, "run", path, "--local", "--root", tmp_path / "at", "-q") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "failures (1)" in said.err
    assert "tracebacks: " in said.err
    assert "memit " not in said.err


def test_a_quiet_run_still_refuses_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, tiny(methods=["memti"]))
    assert sphere(monkeypatch, "run", path, "--local", "--quiet") == 2
    assert "did you mean 'memit'?" in capsys.readouterr().err
