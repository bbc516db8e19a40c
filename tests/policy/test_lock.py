"""The lock: every dependency of pyproject.toml, in the version of constraints.txt, with hashes, for every Python."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from repository import REPOSITORY

EXTRAS = ("aws", "s3")
PYTHONS = ("3.11", "3.12", "3.13")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def entries(text: str) -> list[str]:
    """Return the requirements of a lock or of a constraints file, each on one line with its options."""
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def requirement(entry: str) -> Requirement:
    """Return a requirement without its hashes."""
    return Requirement(entry.partition(" --hash")[0].strip())


def pins(entries: list[str], python: str) -> dict[str, str]:
    """Return the version of every package that this Python takes on Linux, by name."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found = [requirement(entry) for entry in entries]
    taken = [one for one in found if one.marker is None or one.marker.evaluate(environment)]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in taken}


@pytest.fixture(scope="module")
def lock() -> list[str]:
    return entries((REPOSITORY / "requirements.lock").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def constraints() -> list[str]:
    return entries((REPOSITORY / "constraints.txt").read_text(encoding="utf-8"))


def test_the_lock_names_versions_and_hashes_and_no_host(lock: list[str]) -> None:
    assert len(lock) > 100
    assert [entry.split()[0] for entry in lock if not re.match(r"[\w.-]+==[\w.]+ ", entry)] == []
    assert [entry.split()[0] for entry in lock if not HASH.search(entry)] == []
    assert [entry.split()[0] for entry in lock if "://" in entry or "@" in entry] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_locked_within_its_bounds(lock: list[str], python: str) -> None:
    locked = pins(lock, python)
    wanted = [*PROJECT["dependencies"], *(text for extra in EXTRAS for text in PROJECT["optional-dependencies"][extra])]
    bounds = [Requirement(text) for text in wanted]
    assert [str(one) for one in bounds if canonicalize_name(one.name) not in locked] == []
    outside = [one for one in bounds if not one.specifier.contains(locked[canonicalize_name(one.name)])]
    assert [str(one) for one in outside] == []
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_and_constraints_name_the_same_versions(lock: list[str], constraints: list[str], python: str) -> None:
    locked, given = pins(lock, python), pins(constraints, python)
    assert {name: locked[name] for name in locked.keys() & given.keys() if locked[name] != given[name]} == {}
    # What no constraint names is what torch's build for NVIDIA GPUs brings.
    free = locked.keys() - given.keys()
    assert [name for name in free if not re.match(r"nvidia-|cuda-|triton$", name)] == []


def test_quickstart_installs_no_development_tools(tmp_path: Path) -> None:
    def planned(*arguments: str) -> str:
        command = ["make", "--dry-run", "TORCH_INDEX=https://example.org/cpu", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    quickstart = planned("quickstart")
    assert "-c constraints.txt -e ." in quickstart
    assert "[dev]" not in quickstart
    assert "--index-url 'https://example.org/cpu'" in quickstart
    assert "[dev]" in planned("test")
