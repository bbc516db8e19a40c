"""Where commands print."""

import sys

from rich.console import Console

__all__ = ["output_console"]

_PIPE_WIDTH = 120


def output_console() -> Console:
    """Return the console of a command: as wide as the terminal, or wide enough for tables in a pipe or file."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
