"""House rules that a machine can check, on every file of the project."""

import re
from pathlib import Path

import pytest
from repository import REPOSITORY
from source_rules import (
    Rule,
    fixed_devices,
    harness_caches,
    long_bodies,
    machine_paths,
    module_containers,
    prints,
    state_in_modules,
    too_long,
    unknown_names,
    unsafe_reads,
)

PACKAGES = ("sphere_core", "evaluators", "workflows")
TEXT_FOLDERS = (*PACKAGES, "tests", "benchmarks", "examples", "docs", "deploy", ".ci")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ""}


def code_files(folders: tuple[str, ...]) -> list[Path]:
    """Return the Python files of the folders of this repository."""
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def text_files() -> list[Path]:
    """Return the text files that belong to the project, data aside."""
    inside = [path for folder in TEXT_FOLDERS for path in sorted((REPOSITORY / folder).rglob("*"))]
    return [
        path
        for path in [*REPOSITORY.iterdir(), *inside]
        if path.is_file() and path.suffix in TEXT_SUFFIXES and path.name != ".git"
    ]


# The one call that may let a model's own code in: it passes on what the user has asked for.
LETS_CODE_IN = {"sphere_core/models/loading.py": 1}
RULES = [prints, module_containers, state_in_modules, unsafe_reads, fixed_devices, harness_caches, long_bodies]


@pytest.fixture(scope="module")
def broken() -> dict[Rule, dict[str, int]]:
    """How many lines of which file break a rule: all rules on one file after the other, each read and parsed once."""
    found: dict[Rule, dict[str, int]] = {rule: {} for rule in RULES}
    for path in code_files(PACKAGES):
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(REPOSITORY))
        for rule in RULES:
            lines = rule(text)
            if lines:
                found[rule][name] = len(lines)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_packages_keep_the_rule(rule: Rule, broken: dict[Rule, dict[str, int]]) -> None:
    assert broken[rule] == (LETS_CODE_IN if rule is unsafe_reads else {})


def test_files_are_short() -> None:
    files = code_files((*PACKAGES, "tests", "docs"))
    assert [str(path) for path in files if too_long(path.read_text(encoding="utf-8"))] == []


def test_no_path_of_a_machine() -> None:
    files = [path for path in text_files() if "__pycache__" not in path.parts]
    broken = {str(path.relative_to(REPOSITORY)): machine_paths(path.read_text(encoding="utf-8")) for path in files}
    assert {path: lines for path, lines in broken.items() if lines} == {}


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in code_files(PACKAGES)}
    # lm-eval loads the functions of task files by their path.
    folders -= {path.parent for path in code_files(PACKAGES) if list(path.parent.glob("*.yaml"))}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_text_names_modules_and_files_that_exist() -> None:
    # What has changed in earlier versions is named as it was.
    files = [path for path in text_files() if path.suffix in {".md", ".py"} and path.name != "CHANGELOG.md"]
    files = [path for path in files if not path.is_relative_to(REPOSITORY / "tests")]
    broken = {str(path.relative_to(REPOSITORY)): unknown_names(path.read_text("utf-8"), REPOSITORY) for path in files}
    assert {path: lines for path, lines in broken.items() if lines} == {}


def test_docs_name_tests_that_exist() -> None:
    named = {
        name for path in (REPOSITORY / "docs").glob("*.md") for name in re.findall(r"`(test_\w+)`", path.read_text())
    }
    assert "test_survival" in named
    there = {path.stem for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert sorted(named - there) == []
