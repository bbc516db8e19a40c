"""The log of a calibration: one line of JSON per trial, written as the trial ends, so that a killed one resumes."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import output_errors
from workflows.runs.calibration_bench import Trial

__all__ = ["TrialLog"]


class TrialLog:
    """Trials by a key of everything that can change their numbers. A context manager: it holds the file, locked.

    Entering reads the trials that are there. A last line that a killed process left unfinished is cut off; another line
    that is not a trial is an InputError, and so is a file that another calibration holds.
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
        whole, _, rest = self._file.read().rpartition(b"\n")
        if rest:
            self._file.truncate(len(whole) + 1 if whole else 0)
        for number, line in enumerate(whole.splitlines(), start=1):
            key, trial = self._read(line, number)
            self._known[key] = trial
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: str) -> Trial | None:
        """Return the trial of a key, or None if it is not there."""
        return self._known.get(key)

    def add(self, key: str, trial: Trial) -> None:
        """Append a trial; it is on disk when this returns."""
        self._known[key] = trial
        with output_errors(self.path, remedy="make room, or give --log; what is logged is not tried again"):
            self._file.write(json.dumps({"key": key, **trial.record()}).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

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
