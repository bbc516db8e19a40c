"""The small JSON records below a sweep's root. Each has one type, one reader and one writer; keys are field names.

A record that is missing or cannot be read is None to its reader, which decides what that means. Keys that a later
release adds are ignored.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from sphere_core.foundation.storage import Storage
from workflows.store.policies import Watchdog

__all__ = ["AttemptRecord", "EditTiming", "Failure", "Progress", "ProgressState", "ScoreTiming", "Stop"]

ProgressState = Literal["running", "stopped", "edited", "collapsed"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    indent: ClassVar[int | None] = None

    @classmethod
    def read(cls, storage: Storage, path: str) -> Self | None:
        """Return the record in a file; None where there is none, or none that can be read."""
        try:
            return cls.model_validate(json.loads(storage.read_bytes(path)))
        except (FileNotFoundError, ValidationError, ValueError):
            return None

    def write(self, storage: Storage, path: str) -> None:
        """Publish the record as a file, replacing what was there."""
        storage.write_bytes(path, json.dumps(self.as_json(), indent=self.indent).encode())

    def as_json(self) -> Mapping[str, Any]:
        """Return the record as it is stored, ready for JSON."""
        return self.model_dump(mode="json", by_alias=True)


class Progress(_Record):
    """`progress.json`: how far the replica that runs a trajectory is, and when it said so (seconds since the epoch)."""

    state: ProgressState
    edits: int
    of: int = 0
    edits_per_second: float = 0.0
    attempt: int = 0
    owner: str = ""
    at: float = 0.0


class Failure(_Record):
    """`error.json` of a trajectory, or a file below `errors/`: what failed for good, and its traceback.

    `edits` is how far the trajectory was. `redo` are the files that stand without the part that failed: with them
    removed, the whole is scored again.
    """

    indent = 1

    task: str = ""
    error: str
    message: str = ""
    edits: int | None = None
    traceback: str = ""
    redo: tuple[str, ...] | None = None

    def as_json(self) -> Mapping[str, Any]:
        """Return the record as it is stored; `redo` only where something is to be done again."""
        return self.model_dump(mode="json", exclude={"redo"} if self.redo is None else None)

    @classmethod
    def read_or_unreadable(cls, storage: Storage, path: str, *, task: str) -> "Failure":
        """Return the failure in a file that is there; a damaged one is a failure of `task` all the same."""
        found = cls.read(storage, path)
        if found is None:
            return cls(task=task, error="UnreadableRecord", message=f"{storage.uri}/{path} cannot be read")
        return found if found.task else found.model_copy(update={"task": task})


class Stop(_Record):
    """`stopped.json`: after how many edits a watchdog has stopped a trajectory, why, and by which limits."""

    indent = 1

    edits: int
    reason: str
    watchdog: Watchdog | None = None


class AttemptRecord(_Record):
    """`attempts/NNNN.json`: the edit that an attempt began from, the checkpoints that stood then, and how far the
    attempt before had said it was."""

    first: int = Field(validation_alias=AliasChoices("from", "first"), serialization_alias="from")
    standing: int
    before: int
    owner: str
    at: float


class EditTiming(_Record):
    """Below `timings/edit/`: seconds and edits between the checkpoint before and this one."""

    edits: int
    attempt: int
    seconds: float
    edits_in_lap: int


class ScoreTiming(_Record):
    """Below `timings/EVALUATOR/`: seconds that one subject's rows took."""

    seconds: float
    rows: int
