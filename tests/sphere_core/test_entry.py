"""The `sphere` script refuses to start with another project's package in place of ours, and says so in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

import sphere_core.entry
from sphere_core.entry import PACKAGES, foreign_package
from workflows.preflight.machine import machine_findings

START = "from sphere_core.entry import main; import sys; sys.argv = ['sphere', '--help']; main()"
PARTS = ("sphere_core", *PACKAGES)


def start(*path: Path) -> subprocess.CompletedProcess[str]:
    """Start the command line with these folders in front of everything else that is installed."""
    code = f"import sys; sys.path[:0] = {[str(folder) for folder in path]}; {START}"
    return subprocess.run([sys.executable, "-c", code], cwd=path[0], capture_output=True, text=True, check=False)


def write_foreign(folder: Path, package: str, text: str) -> None:
    """Write a package of another project, with a distribution that owns it."""
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(text, encoding="utf-8")
    record = folder / f"other_{package}-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: other-{package}\nVersion: 1.0\n", encoding="utf-8")
    (record / "top_level.txt").write_text(f"{package}\n", encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    "text",
    ["raise ImportError('no module named llama_index')\n", "class Workflow: ...\n", "", "__version__ = '\xff'\n"],
    ids=["fails", "imports", "empty", "not ASCII"],
)
def test_a_foreign_package_in_front_is_one_line(tmp_path: Path, package: str, text: str) -> None:
    write_foreign(tmp_path, package, text)
    done = start(tmp_path, REPOSITORY)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"the package '{package}' is another project's ({tmp_path / package / '__init__.py'})" in line
    assert f"'other-{package}' installs too" in line
    assert "environment of its own" in line


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_whose_init_is_gone_is_one_line(tmp_path: Path, package: str) -> None:
    """pip leaves this when the other project is uninstalled: it removes the file that both have."""
    for part in PARTS:
        (tmp_path / part).mkdir()
        for entry in (REPOSITORY / part).iterdir():
            if not (part == package and entry.name == "__init__.py"):
                (tmp_path / part / entry.name).symlink_to(entry)
    environment = {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-S", "-c", START]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"the package '{package}' is missing" in line


def test_our_own_packages_start() -> None:
    assert foreign_package() is None
    done = start(REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "sphere" in done.stdout


def test_doctor_names_who_else_installs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours came last and works; the other project is broken, and only the metadata shows it."""
    write_foreign(tmp_path, "workflows", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [finding for finding in machine_findings(tmp_path) if finding.what.startswith("package ")]
    assert [(finding.what, finding.state) for finding in found] == [("package workflows", "missing")]
    assert "'other-workflows' installs it too" in found[0].found
    assert sphere_core.entry.other_owners("evaluators") == []
