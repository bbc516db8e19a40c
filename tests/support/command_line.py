"""Running the `sphere` command in the test's own process, and reading what it shows."""

import sys

import pytest

from workflows.cli import main


def sphere(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["sphere", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def squeezed(text: str) -> str:
    """Return a text without frames, blanks and line breaks: a panel breaks lines wherever its width asks."""
    return "".join(text.replace("│", "").split())
