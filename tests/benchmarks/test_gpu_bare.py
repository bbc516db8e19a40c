"""The benchmark for a card on a bare machine: what is missing is named at once, and nothing else is imported."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from repository import REPOSITORY

from benchmarks.gpu.needed import NEEDED

# Runs the module as `python -m` does in a Python that does not find some top-level modules.
BARE = """
import importlib.machinery, json, runpy, sys

hidden = set(json.loads(sys.argv[1]))

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
sys.argv[:] = ["benchmarks.gpu", *sys.argv[2:]]
runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""


def run_without(hidden: Iterable[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BARE, json.dumps(sorted(hidden)), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_everything_missing_is_named_in_one_screen_with_one_command() -> None:
    without = ["pydantic", "psutil", "threadpoolctl", "scipy", "pyarrow", "typer", "ray", "lm_eval"]
    found = run_without(without)
    assert found.returncode == 2
    assert found.stdout == ""
    assert "Traceback" not in found.stderr
    first = found.stderr.splitlines()[0]
    assert first.endswith("pydantic, psutil, threadpoolctl, scipy, pyarrow")
    (command,) = [line for line in found.stderr.splitlines() if line.startswith("    ")]
    assert command.split("install ")[1].replace('"', "").split() == [NEEDED[name] for name in without if name in NEEDED]
    assert len(found.stderr.splitlines()) < 12


def test_the_requirements_are_those_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(NEEDED.values()) <= set(project["dependencies"])


def test_it_runs_with_nothing_but_what_it_names(tmp_path: Path) -> None:
    # Of the rest of this project's dependencies, what torch and transformers bring may be there.
    others = ["accelerate", "datasets", "duckdb", "lm_eval", "matplotlib", "ray", "sklearn", "typer", "rich"]
    assert not set(others) & set(NEEDED)
    out = tmp_path / "gpu.json"
    found = run_without(others, "--only", "B0", "--small", "--out", str(out))
    assert found.returncode == 0, found.stderr
    assert json.loads(out.read_text()).keys() >= {"B0", "device"}
