"""The small JSON records below a sweep's root. Each has one type, one reader and one writer; keys are field names.

A missing or unreadable record is None to its reader, which decides what that means. Keys that a later release adds are
ignored.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from sphere_core.foundation.storage import Storage
from sphere_core.foundation.work_progress import Position
from workflows.store.policies import Watchdog

__all__ = [
    "AttemptRecord",
    "EditTiming",
    "Failure",
    "Lease",
    "PassSize",
    "Progress",
    "ProgressState",
    "ScoreTiming",
    "ShardsEnd",
    "StageSeconds",
    "Stop",
    "TaskProgress",
    "Tracked",
]

ProgressState = Literal["running", "stopped", "edited", "collapsed"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    indent: ClassVar[int | None] = None

    @classmethod
    def read(cls, storage: Storage, path: str) -> Self | None:
        """Return the record in a file; None if it is missing or unreadable."""
        try:
            return cls.decode(storage.read_bytes(path))
        except FileNotFoundError:
            return None

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Return the record that bytes hold; None if they hold none."""
        try:
            return cls.model_validate(json.loads(data))
        except (ValidationError, ValueError):
            return None

    def write(self, storage: Storage, path: str) -> None:
        """Publish the record as a file, replacing an earlier one."""
        storage.write_bytes(path, json.dumps(self.as_json(), indent=self.indent).encode())

    def as_json(self) -> Mapping[str, Any]:
        """Return the record as it is stored, ready for JSON."""
        return self.model_dump(mode="json", by_alias=True)


class Progress(_Record):
    """`progress.json`: progress of the replica that runs a trajectory, with the time of the report (seconds since the
    epoch).

    `within` is how far the batch under way is, `moved` when the work had last shown a sign of life; 0 if unknown.
    """

    state: ProgressState
    edits: int
    of: int = 0
    edits_per_second: float = 0.0
    attempt: int = 0
    owner: str = ""
    at: float = 0.0
    within: Position | None = None
    moved: float = 0.0

    def as_json(self) -> Mapping[str, Any]:
        """Return the record as it is stored; what is not known is left out."""
        unknown = {name for name in ("within", "moved") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=unknown)


class TaskProgress(_Record):
    """Below `progress/`: how far a build of second moments is, and when that was reported; removed at its end."""

    title: str
    within: Position
    at: float


class Tracked(_Record):
    """A file below `tracked/`: which checkpoints a project of a tracker has, as edit counts by trajectory."""

    project: str
    place: str | None = None
    sent: Mapping[str, tuple[int, ...]] = Field(default_factory=dict)


class Failure(_Record):
    """`error.json` of a trajectory, or a file below `errors/`: what failed for good, and its traceback.

    `edits` is the trajectory's progress then. `redo` are row files written without the part that failed: once they are
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
        """Return the record as it is stored; `redo` only if something is to be repeated."""
        return self.model_dump(mode="json", exclude={"redo"} if self.redo is None else None)

    @classmethod
    def read_or_unreadable(cls, storage: Storage, path: str, *, task: str) -> "Failure":
        """Return the failure in an existing file; a damaged file still is a failure of `task`."""
        found = cls.read(storage, path)
        if found is None:
            return cls(task=task, error="UnreadableRecord", message=f"{storage.uri}/{path} cannot be read")
        return found if found.task else found.model_copy(update={"task": task})


class Stop(_Record):
    """`stopped.json`: the edit count at which a watchdog stopped a trajectory, the reason, and the limits."""

    indent = 1

    edits: int
    reason: str
    watchdog: Watchdog | None = None


class Lease(_Record):
    """`lease.json`: the holder of a trajectory, by the number of its attempt and a name of the replica."""

    attempt: int
    owner: str


class AttemptRecord(_Record):
    """`attempts/NNNN.json`: the edit at which an attempt began, the newest checkpoint then, and the progress that the
    previous attempt had reported."""

    first: int = Field(validation_alias=AliasChoices("from", "first"), serialization_alias="from")
    standing: int
    before: int
    owner: str
    at: float


class StageSeconds(_Record):
    """Seconds by stage of one piece of work, and what they hold for.

    `stages` add up to the work's seconds, those of `beside` ran on other threads meanwhile. `device` is the kind of
    device, `threads` those of its process, `versions` of this package, its commit and the libraries that do the work.
    Earlier releases wrote none.
    """

    stages: dict[str, float] | None = None
    beside: dict[str, float] | None = None
    device: str | None = None
    threads: int | None = None
    versions: dict[str, str] | None = None

    def as_json(self) -> Mapping[str, Any]:
        """Return the record as it is stored: what earlier releases wrote first, and of the rest what is known."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {name: values.pop(name) for name in type(self).__annotations__ if name in values} | values


class EditTiming(StageSeconds):
    """Below `timings/edit/`: seconds and edits since the previous checkpoint."""

    edits: int
    attempt: int
    seconds: float
    edits_in_lap: int


class ScoreTiming(StageSeconds):
    """Below `timings/EVALUATOR/`: seconds spent on one subject's rows."""

    seconds: float
    rows: int


class ShardsEnd(_Record):
    """What a shard leaves when it has read all texts: how many groups of second moments the pass has."""

    groups: int


class PassSize(_Record):
    """The tokens of a forward of a pass over a corpus, fixed by its first attempt, since sums depend on it."""

    forward_tokens: int
