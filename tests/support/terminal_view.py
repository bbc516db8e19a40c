"""What a command shows on a terminal of a given width, without colours."""

import io
import re
import sys

import pytest
from command_line import sphere


class TerminalStream(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal_text(width: int, *arguments: object) -> tuple[int, str]:
    """Run the command in this process on a terminal of `width` columns; return its exit code and what it shows."""
    stream = TerminalStream()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        for name, value in {"COLUMNS": str(width), "LINES": "50", "TERM": "xterm", "NO_COLOR": "1"}.items():
            patch.setenv(name, value)
        code = sphere(patch, *arguments)
    return code, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def pipe_text(*arguments: object) -> tuple[int, str]:
    """Run the command in this process with a pipe for its output; return its exit code and what it prints."""
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        code = sphere(patch, *arguments)
    return code, stream.getvalue()
