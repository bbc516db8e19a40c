"""What a command made of a bad input, and whether that is right."""

import importlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

__all__ = ["LIMIT_SECONDS", "Outcome", "faults_of", "files_of", "load_command", "outcome_of"]

LIMIT_SECONDS = 20.0
_MOST_LINES = 40


@dataclass(frozen=True)
class Outcome:
    """Exit code (None: killed, since it did not end), the screen, seconds, and the files that are new."""

    code: int | None
    screen: str
    seconds: float
    written: tuple[str, ...]


def files_of(folder: Path) -> frozenset[str]:
    """Return what is in a folder, links not followed."""
    return frozenset(str(Path(base, name).relative_to(folder)) for base, _, names in os.walk(folder) for name in names)


def load_command() -> None:
    """Import what the command imports, once: every input runs in a fork of this process."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "COLUMNS": "100", "OMP_NUM_THREADS": "1"})
    for name in ("workflows.cli", "workflows.runs.sweep", "workflows.runs.edit", "transformers", "datasets"):
        importlib.import_module(name)


def outcome_of(arguments: list[str], folder: Path) -> Outcome:
    """Run `sphere` in a folder in a process of its own, and end it after the time limit.

    Call `load_command` first. Several threads must not do this at a time.
    """
    before, started = files_of(folder), time.monotonic()
    with tempfile.TemporaryFile() as screen:
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            _command(arguments, folder, screen.fileno())
        limit = threading.Timer(LIMIT_SECONDS, os.killpg, (process, signal.SIGKILL))
        limit.start()
        _, status = os.waitpid(process, 0)
        late = not limit.is_alive()
        limit.cancel()
        limit.join()
        screen.seek(0)
        shown = screen.read().decode(errors="replace")
    code = None if late else os.waitstatus_to_exitcode(status)
    return Outcome(code, shown, time.monotonic() - started, tuple(sorted(files_of(folder) - before)))


def _command(arguments: list[str], folder: Path, screen: int) -> NoReturn:
    """Be the command: its folder, streams, arguments and exit code."""
    os.setsid()
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate((nothing, screen, screen)):
        os.dup2(stream, number)
    sys.argv = ["sphere", *arguments]
    code = 1
    try:
        importlib.import_module("workflows.cli").main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 -- whatever it is, it is what the user would see
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def faults_of(outcome: Outcome) -> list[str]:
    """Return what is wrong with how an input was refused; nothing if it is right."""
    return list(_faults(outcome))


def _faults(outcome: Outcome) -> Iterable[str]:
    if outcome.code is None:
        yield "hang"
    if outcome.code is not None and outcome.code < 0:
        yield f"crash (signal {-outcome.code})"
    if "Traceback (most recent call last)" in outcome.screen:
        yield "traceback"
    if outcome.code == 0:
        yield "accepted"
    elif outcome.code not in (None, 2):
        yield f"exit code {outcome.code}"
    # A wrong option is reported by the command line itself, which names it and points to the help.
    is_option = "Usage:" in outcome.screen and "Error" in outcome.screen
    if outcome.code == 2 and not is_option:
        if "where:" not in outcome.screen:
            yield "no place"
        if "remedy:" not in outcome.screen:
            yield "no remedy"
    if len(outcome.screen.strip().splitlines()) > _MOST_LINES:
        yield "more than a screen"
    if outcome.written:
        yield f"written: {', '.join(outcome.written[:3])}"
