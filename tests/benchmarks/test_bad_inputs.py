"""The harness of bad inputs: it runs, judges what it saw, and does not run again what has a result."""

import json
import os
import subprocess
import sys
from pathlib import Path

from repository import REPOSITORY

from benchmarks.bad_inputs.__main__ import ALL
from benchmarks.bad_inputs.verdict import Outcome, faults_of

RIGHT = "error: unknown preset 'x'\nwhere:  sweep.yaml, line 3\nremedy: valid: factworld\n"


def test_every_input_has_a_name_of_its_own() -> None:
    assert len({case.id for case in ALL}) == len(ALL) >= 150


def test_what_is_right_and_what_is_not() -> None:
    assert faults_of(Outcome(2, RIGHT, 1.0, ())) == []
    assert faults_of(Outcome(None, RIGHT, 20.0, ())) == ["hang"]
    assert faults_of(Outcome(-11, RIGHT, 1.0, ())) == ["crash (signal 11)", "exit code -11"]
    assert faults_of(Outcome(0, RIGHT, 1.0, ("root/plan.json",))) == ["accepted", "written: root/plan.json"]
    assert faults_of(Outcome(2, "error: wrong", 1.0, ())) == ["no place", "no remedy"]
    traceback = f"Traceback (most recent call last)\n{RIGHT}" + "line\n" * 50
    assert faults_of(Outcome(1, traceback, 1.0, ())) == ["traceback", "exit code 1", "more than a screen"]


def test_some_inputs_through_the_real_command(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.bad_inputs", "--results", str(results), "--only", "output/status"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(results.read_text())
    assert len(found) == 3
    assert all("error: " in result["screen"] for result in found.values())
