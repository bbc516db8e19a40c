"""Source distribution and wheel: complete, and a sweep runs from the wheel with no repository at hand."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from repository import REPOSITORY

PACKAGES = ("sphere_core", "evaluators", "workflows")
CACHES = shutil.ignore_patterns("__pycache__", ".*_cache")
ONLY_HERE = shutil.ignore_patterns(".git", ".venv*", "build", "runs", "*.egg-info")
# What README, help and the documents name.
NAMED = (
    *("examples/quickstart.yaml", "examples/edit_25_facts.py", "docs/tutorial.md", "docs/generate.py", "mkdocs.yml"),
    *("constraints.txt", "requirements.lock", "CHANGELOG.md", "CITATION.cff", "Makefile", "cluster.yaml", ".ci/run"),
    *("deploy/Containerfile", "tests/conftest.py", "tests/data/golden/requests.json", "benchmarks/__main__.py"),
)
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def left_out(folder: str, names: list[str]) -> set[str]:
    """Return what a clone of the repository would not have."""
    return CACHES(folder, names) | (ONLY_HERE(folder, names) if Path(folder) == REPOSITORY else set())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two distributions, built from a copy of the tree without network."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, ignore=left_out)
    found = {}
    for kind in ("sdist", "wheel"):
        command = [sys.executable, "-c", BUILD, f"build_{kind}", str(folder)]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
        assert "Package would be ignored" not in done.stderr + done.stdout
        found[kind] = folder / done.stdout.splitlines()[-1]
    return found


def data_and_code(root: Path) -> set[str]:
    """Return the files of the three packages below a folder, caches left out."""
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file())
    return {str(path.relative_to(root)) for path in files if "__pycache__" not in path.parts and path.suffix != ".pyc"}


def test_the_wheel_holds_every_file_of_the_packages(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == data_and_code(REPOSITORY)


def test_the_source_distribution_holds_what_the_documents_name(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert [name for name in NAMED if name not in names] == []
    tests = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "tests").rglob("*.py")}
    assert tests - names == set()
    assert data_and_code(REPOSITORY) - names == set()
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []


def in_environment(environment: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the environment outside of the repository: a PYTHONPATH that holds it would come first."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    program = [str(environment / "bin" / command[0]), *command[1:]]
    return subprocess.run(program, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def environment(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone; its dependencies are those of this one, behind it on the path."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(built["wheel"]))
    installed = in_environment(folder, folder, "python", *install)
    assert installed.returncode == 0, installed.stderr
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    return folder


@pytest.fixture
def sweep(environment: Path, tmp_path: Path) -> Path:
    """A folder with the sweep file that `sphere init` of the wheel writes, made small."""
    assert in_environment(environment, tmp_path, "sphere", "init").returncode == 0
    path = tmp_path / "sweep.yaml"
    text = path.read_text(encoding="utf-8").replace("edits: 100", "edits: 25").replace("seeds: [0, 1]", "seeds: [0]")
    path.write_text(text.replace("checkpoint_every: 50", "checkpoint_every: 25"), encoding="utf-8")
    return tmp_path


def test_a_sweep_is_planned_from_the_wheel(environment: Path, sweep: Path) -> None:
    where = in_environment(environment, sweep, "python", "-c", "import workflows; print(workflows.__file__)")
    assert where.stdout.startswith(str(environment))
    planned = in_environment(environment, sweep, "sphere", "plan", "sweep.yaml")
    assert "2 planned" in planned.stdout, planned.stderr


@pytest.mark.long
def test_a_sweep_runs_from_the_wheel(environment: Path, sweep: Path) -> None:
    ran = in_environment(environment, sweep, "sphere", "run", "sweep.yaml", "--local")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    table = in_environment(environment, sweep, "sphere", "table", "runs/first", "--format", "csv")
    assert "alphaedit+sphere" in table.stdout


def test_another_project_over_the_wheel_is_one_line(environment: Path, tmp_path: Path) -> None:
    (package,) = (environment / "lib").glob("python*/site-packages/workflows/__init__.py")
    ours = package.read_bytes()
    try:
        package.write_text("from nowhere import Workflow\n", encoding="utf-8")
        replaced = in_environment(environment, tmp_path, "sphere", "doctor")
        package.unlink()
        removed = in_environment(environment, tmp_path, "sphere", "doctor")
    finally:
        package.write_bytes(ours)
    for done, what in ((replaced, "is another project's"), (removed, "is missing")):
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert f"the package 'workflows' {what}" in line
