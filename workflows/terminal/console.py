"""Where commands print: tables and lines for a person, JSON for a program."""

import json
import logging
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from workflows.terminal.escape import one_line

__all__ = ["json_text", "log_handler", "notice_console", "output_console", "print_json", "say"]

_UNLIMITED = 10_000


def output_console() -> Console:
    """Return the console of a command: as wide as the terminal; in a pipe or file nothing is wrapped, padded or cut."""
    return Console() if sys.stdout.isatty() else Console(width=_UNLIMITED, soft_wrap=True)


def notice_console() -> Console:
    """Return the console for notices beside an answer: standard error, so that an answer can be piped."""
    return Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=_UNLIMITED, soft_wrap=True)


def log_handler(console: Console) -> logging.Handler:
    """Return a handler that writes log records where a console prints; in a pipe or file each is a line, not padded."""
    if console.is_terminal:
        return RichHandler(console=console, show_path=False, markup=False)
    handler = logging.StreamHandler(console.file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    return handler


def say(console: Console, text: str, *, style: str = "") -> None:
    """Print one line of text: wrapped between words on a terminal, safe to show whatever it quotes."""
    console.print(Text(one_line(text), style=style))


def json_text(record: Mapping[str, object]) -> str:
    """Return a record as every command prints it: one object, indented, ASCII; numbers that are none become null."""
    return json.dumps(_finite(record), indent=1, allow_nan=False, default=str) + "\n"


def print_json(console: Console, record: Mapping[str, object]) -> None:
    """Print a record as JSON, and nothing else."""
    console.out(json_text(record), end="", highlight=False)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
