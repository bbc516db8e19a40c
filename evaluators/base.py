"""Input and output of evaluators: a subject to score, and scores in long format."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import pyarrow as pa
import torch

from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest

__all__ = [
    "Evaluator",
    "FailedPart",
    "Health",
    "KeptResults",
    "MissingPrevious",
    "Previous",
    "Score",
    "Scored",
    "Status",
    "Subject",
    "collapses",
    "make_score",
    "total_health",
    "unedited",
]

Status = Literal["ok", "collapsed", "failed"]


@dataclass(frozen=True)
class Previous:
    """The wanted checkpoint before the scored one: its edit count and its fp32 weights, by parameter name."""

    edits: int
    weights: Mapping[str, torch.Tensor]


class KeptResults(Protocol):
    """Earlier results, under keys that name everything they depend on."""

    def read(self, key: str) -> bytes | None:
        """Return what is kept under a key, or None."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Keep a result under a key; a second call replaces it."""
        ...


@dataclass(frozen=True)
class MissingPrevious:
    """The previous checkpoint is no longer stored: scores against it fail, for this reason."""

    edits: int
    reason: str


@dataclass(frozen=True)
class Subject:
    """A model to score, with the edits it has been through.

    `model` already holds the checkpoint's weights. `requests` are the edits 1..t in stream order, and `edits`
    is t; for the unedited model `requests` is the whole stream and `edits` is 0. `previous` is the wanted
    checkpoint before (None: the unedited model). `moments` are the second moments of the
    sites' inputs, if the sweep has them; the same object is passed for every checkpoint. Both are
    set only for evaluators that declare that they read them. `kept`, if given, holds results of equal weights under
    equal settings. `scalars` are those of the editor's state at the checkpoint, `state` its tensors, for evaluators
    with `reads_state`.
    """

    model: EditableModel
    requests: tuple[EditRequest, ...]
    edits: int
    previous: Previous | MissingPrevious | None = None
    moments: SecondMoments | None = None
    kept: KeptResults | None = None
    scalars: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Health:
    """How many of the `n` items behind a score were not finite, and how many were tied."""

    n: int
    nonfinite: int
    tied: int


@dataclass(frozen=True)
class Score:
    """One number in long format.

    `value` is None if and only if `status` is not "ok": "collapsed" if the answers are unusable, "failed" if the
    scorer raised; `reason` then says why. `stderr`, and the 95 % interval from `ci_low` to `ci_high`, are None
    if no closed form exists or none was computed. `n` counts what the value averages over (records, documents,
    entries); `nonfinite` and `tied` count what was scored to get it (probes, documents, entries).
    """

    metric: str
    protocol: str
    value: float | None
    stderr: float | None
    n: int
    nonfinite: int
    tied: int
    status: Status
    higher_is_better: bool | None
    site: str | None = None
    task: str | None = None
    reason: str | None = None
    ci_low: float | None = None
    ci_high: float | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.status != "ok"):
            raise ValueError(f"{self.metric} is {self.status} with the value {self.value}")


@dataclass(frozen=True)
class FailedPart:
    """A part of an evaluation that raised; its rows have the status "failed"; the rows of other parts are kept."""

    part: str
    error: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Scored:
    """The result of an evaluator: scores, the tables behind them by name (scored probes, documents, ...), failures.

    A table's columns are the evaluator's own; subject and evaluation are added when it is stored.
    """

    rows: list[Score]
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    failures: tuple[FailedPart, ...] = ()


@runtime_checkable
class Evaluator(Protocol):
    """Turns a subject into scores."""

    @property
    def kind(self) -> str:
        """The name of the evaluator in a sweep file."""
        ...

    @property
    def reads_generation(self) -> bool:
        """Whether generation prompts or reference texts of the requests enter a score, and so its identity."""
        ...

    @property
    def reads_previous(self) -> bool:
        """Whether the wanted checkpoint before enters a score, and so the schedule its identity."""
        ...

    @property
    def reads_moments(self) -> bool:
        """Whether second moments enter a score, and so its identity, where the sweep has them."""
        ...

    def identity(self) -> dict[str, object]:
        """Everything but the subject that can change a score, as canonical JSON; needs no model."""
        ...

    def score(self, subject: Subject) -> Scored:
        """Score the subject, leaving its weights, its tokenizer and the random states as they were."""
        ...


def collapses(health: Health) -> bool:
    """Return whether a score is unusable: anything not finite, or more than half of it tied.

    One non-finite answer is enough, since it shows weights or activations that no longer hold numbers.
    A tie can happen by chance in low precision; a model whose logits are all equal ties everywhere.
    """
    return health.nonfinite > 0 or 2 * health.tied > health.n


def total_health(parts: Sequence[Health]) -> Health:
    """Return the sum of several counts."""
    return Health(
        sum(part.n for part in parts), sum(part.nonfinite for part in parts), sum(part.tied for part in parts)
    )


def make_score(
    metric: str,
    protocol: str,
    value: float,
    stderr: float | None,
    *,
    n: int,
    health: Health,
    higher_is_better: bool | None,
    part_collapsed: bool = False,
    site: str | None = None,
    task: str | None = None,
    interval: tuple[float, float] | None = None,
) -> Score:
    """Build a score; a collapsing health, a collapsed part or a non-finite value removes the number.

    `interval` is the 95 % confidence interval, if there is one.
    """
    collapsed = part_collapsed or collapses(health) or not math.isfinite(value)
    kept_stderr = None if collapsed or stderr is None or not math.isfinite(stderr) else float(stderr)
    low, high = (None, None) if collapsed or interval is None else interval
    return Score(
        metric=metric,
        protocol=protocol,
        value=None if collapsed else float(value),
        stderr=kept_stderr,
        n=n,
        nonfinite=health.nonfinite,
        tied=health.tied,
        status="collapsed" if collapsed else "ok",
        higher_is_better=higher_is_better,
        site=site,
        task=task,
        ci_low=low,
        ci_high=high,
    )


@contextmanager
def unedited(model: EditableModel) -> Iterator[None]:
    """Lend the model unedited; raises RuntimeError if what was edited does not come back as it was."""
    masters, attachment, digest = model.masters(), model.attachment, model.weights_digest()
    model.restore_base()
    try:
        yield
    finally:
        # The same tensors, not copies in stored orientation: a loan is compared by them (`EditableModel.holds`).
        model.reinstall(masters, attachment)
        if model.weights_digest() != digest:
            raise RuntimeError("what was edited did not come back as it was")
