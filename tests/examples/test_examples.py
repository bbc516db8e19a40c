"""The notebook-style examples run as they are, and are as short as they say."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from repository import EXAMPLES, REPOSITORY
from sweep_files import tiny, with_fewer_steps, write_sweep

import workflows.api as sphere
from sphere_core.editors.memory.neuron_file import read_neurons, require_place

MOST_LINES = 12


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code: no docstring, comment or blank."""
    body = ast.parse(source).body
    docstring = body[0] if isinstance(body[0], ast.Expr) else None
    return {
        line
        for statement in body
        if statement is not docstring
        for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    }


def run_example(name: str, *arguments: object, store: Path) -> str:
    """Run an example in a process of its own and return what it prints."""
    environment = {**os.environ, "SPHERE_MOMENTS": str(store), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=store, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lines_of_code_are_counted() -> None:
    assert code_lines('"""Docstring\nof two lines."""\n\n# comment\nx = (\n    1\n)\n\ny = 2\n') == {5, 6, 7, 9}


@pytest.mark.slow
def test_25_facts_are_edited_in_a_few_lines(tmp_path: Path) -> None:
    lines = code_lines((EXAMPLES / "edit_25_facts.py").read_text(encoding="utf-8"))
    assert len(lines) <= MOST_LINES
    shown = run_example("edit_25_facts.py", store=tmp_path)
    efficacy = float(shown.rpartition(": ")[2])
    assert "25 edits with alphaedit+sphere" in shown
    assert 0.5 < efficacy <= 1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    methods, evaluators = with_fewer_steps("memit"), {"edit_quality": {}, "geometry": {}}
    settings = tiny(methods=methods, checkpoint_every=2, evaluators=evaluators)
    ended = sphere.run_sweep_file(sweep=write_sweep(folder, settings), root=str(folder / "root"), local=True)
    assert ended.exit_code == 0
    return folder / "root"


@pytest.mark.slow
def test_a_sweep_directory_is_read(root: Path, tmp_path: Path) -> None:
    shown = run_example("read_a_sweep.py", root, store=tmp_path)
    assert "done" in shown
    assert "(unedited)" in shown
    assert [line.split()[0] for line in shown.splitlines() if line.split()[0].isdigit()].count("6") >= 2


def test_neurons_are_made_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "units" / "neurons.safetensors"
    monkeypatch.setattr(sys, "argv", ["neurons.py", str(path), "2"])
    with torch.random.fork_rng():
        made = runpy.run_path(str(EXAMPLES / "neurons.py"))
    assert made["loss"].item() < made["STOP"]
    file = read_neurons(path)
    require_place(path, layers=4, width=64)
    facts = {fact.case_id: fact for fact in made["facts"]}
    assert [*dict.fromkeys(file.header.cases)] == [*facts]
    assert all(fact.question in file.header.prompts for fact in facts.values())
