"""The log of a calibration: one line of JSON per trial, written as the trial ends, so that a killed one resumes."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import open_file, output_errors
from workflows.runs.calibration_bench import Trial

__all__ = ["TrialLog"]

_START = b'{"key": "'


class TrialLog:
    """Trials by a key of everything that can change their numbers. A context manager: it holds the file, locked.

    Entering reads the trials that are there. A last line that a killed process left unfinished is cut off; another line
    that is not a trial is an InputError, and so is a file that another calibration holds. `check` says so before
    anything is computed or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Trial] = {}

    def __enter__(self) -> Self:
        with output_errors(self.path):
            self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise InputError(
                "another calibration is writing this log", where=str(self.path), remedy="wait for it, or give --log"
            ) from error
        self._file.seek(0)
        data = self._file.read()
        try:
            self._known, size = self._parsed(data)
        except InputError:
            self._file.close()
            raise
        self._file.truncate(size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def check(self) -> None:
        """Raise InputError for a file that is there and is not a log of trials."""
        if self.path.exists():
            with open_file(self.path, what="log of trials") as file, output_errors(self.path):
                self._parsed(file.read())

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: str) -> Trial | None:
        """Return the trial of a key, or None if it is not there."""
        return self._known.get(key)

    def items(self) -> list[tuple[str, Trial]]:
        """Return every trial with its key, in the order in which they were run."""
        return list(self._known.items())

    def add(self, key: str, trial: Trial) -> None:
        """Append a trial; it is on disk when this returns."""
        self._known[key] = trial
        with output_errors(self.path, remedy="make room, or give --log; what is logged is not tried again"):
            self._file.write(json.dumps({"key": key, **trial.record()}).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _parsed(self, data: bytes) -> tuple[dict[str, Trial], int]:
        """Return the trials of a log's bytes, and how many bytes end in a whole line."""
        whole, _, rest = data.rpartition(b"\n")
        lines = whole.splitlines()
        # What is cut off must be the beginning of a trial, not of some other file that was named by mistake.
        if not rest.startswith(_START) and not _START.startswith(rest):
            self._read(rest, len(lines) + 1)
        return dict(self._read(line, number) for number, line in enumerate(lines, start=1)), len(data) - len(rest)

    def _read(self, line: bytes, number: int) -> tuple[str, Trial]:
        try:
            record: Mapping[str, Any] = json.loads(line)
            return str(record["key"]), Trial.of(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                "not a trial of a calibration",
                where=f"{self.path}, line {number}",
                remedy="take the line out, or give another --log",
            ) from error
