"""docs/terminal.md shows what the commands show today, as far as that needs no run."""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from repository import EXAMPLES, REPOSITORY
from terminal_view import pipe_text, terminal_text

DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def capture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capture_terminal", DOCS / "capture_terminal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def captures() -> dict[str, str]:
    """What the page shows, by its headings."""
    text = (DOCS / "terminal.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^### (.*?)\n\n```text\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("where", ["80 columns", "100 columns", "pipe"])
@pytest.mark.parametrize("name", ["plan", "methods"])
def test_the_page_is_current(
    capture: ModuleType,
    captures: dict[str, str],
    name: str,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    arguments = {**capture.BEFORE, **capture.ALWAYS}[name]
    _, shown = pipe_text(*arguments) if where == "pipe" else terminal_text(int(where.split()[0]), *arguments)
    assert captures[f"{name}: {where}"] == capture.shortened(shown)


def test_the_page_has_every_view(capture: ModuleType, captures: dict[str, str]) -> None:
    names = [*capture.BEFORE, *capture.AFTER, *capture.ALWAYS]
    places = [*(f"{width} columns" for width in capture.WIDTHS), "pipe"]
    run = {"run: 80 columns", "run: 100 columns", "run: pipe, resumed"}
    assert captures.keys() == {f"{name}: {place}" for name in names for place in places} | run
    for heading, text in captures.items():
        if "columns" in heading:
            assert max(map(len, text.splitlines())) <= int(heading.split(": ")[1].split()[0])
