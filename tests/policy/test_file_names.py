"""File names of a sweep's root are spelled in one place each."""

import re

import pytest
from repository import REPOSITORY

# Each name, and the only file of the packages that spells it in code. Help texts and docstrings may name it too.
SPELLED_IN = {
    "manifest.json": "sphere_core/checkpoint_files.py",
    "weights.safetensors": "sphere_core/checkpoint_files.py",
    "raw.safetensors": "sphere_core/checkpoint_files.py",
    "state.safetensors": "sphere_core/checkpoint_files.py",
    "progress.json": "workflows/store/layout.py",
    "error.json": "workflows/store/layout.py",
    "stopped.json": "workflows/store/layout.py",
    "spec.json": "workflows/store/layout.py",
    "lease.json": "workflows/store/layout.py",
    "plan.json": "workflows/store/layout.py",
}


@pytest.mark.parametrize("name", SPELLED_IN)
def test_a_name_is_spelled_once(name: str) -> None:
    whole = re.compile(rf"""f?"(?:[^"\s]*[/}}])?{re.escape(name)}\"""")
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("sphere_core", "evaluators", "workflows")
        for path in (REPOSITORY / package).rglob("*.py")
        if whole.search(path.read_text(encoding="utf-8"))
    }
    assert found == {SPELLED_IN[name]}
