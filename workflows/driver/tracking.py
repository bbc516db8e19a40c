"""The state of one trajectory during a run, and the totals of a sweep."""

from collections import Counter
from dataclasses import dataclass, field

from workflows.store.plan import TrajectoryPlan
from workflows.store.state import scorable

__all__ = ["Counts", "TrackedTrajectory"]


@dataclass
class Counts:
    """The progress of a sweep."""

    trajectories: int = 0
    trajectories_done: int = 0
    edits: int = 0
    edits_done: int = 0
    scores: int = 0
    scores_done: int = 0
    failures: int = 0


@dataclass
class TrackedTrajectory:
    """A trajectory: its published and scored checkpoints, and whether it runs, waits or has ended."""

    plan: TrajectoryPlan
    place: int
    published: set[int]
    collapsed_at: int | None
    running: bool = False
    queued: bool = False
    failed: bool = False
    running_edits: int = 0
    # Evaluations whose rows exist, by checkpoint; and the checkpoints of which only the manifest is left.
    scored: Counter[int] = field(default_factory=Counter)
    trimmed: set[int] = field(default_factory=set)
    # Checkpoints that were found damaged while it runs: its replica still counts them as published.
    damaged: set[int] = field(default_factory=set)
    # The last attempt that was handed out, and whether it only waits for scores.
    attempt: int = 0
    paused: bool = False
    # The edit count at which a watchdog has stopped it.
    stopped_at: int | None = None
    # A fine-tuning whose checkpoint will never be, or is a collapsed one.
    orphaned: bool = False
    # This trajectory's share of the totals: trajectories done, edits done, scores expected.
    counted: tuple[int, int, int] = (0, 0, 0)

    @property
    def is_edited(self) -> bool:
        """Whether nothing is left to edit."""
        ended = self.stopped_at is not None or self.collapsed_at is not None or self.orphaned
        return ended or self.published.issuperset(self.plan.wanted)

    def is_scored(self, edits: int) -> bool:
        """Return whether all rows of a checkpoint exist."""
        return self.scored[edits] == len(self.plan.evaluations)

    def finished_checkpoints(self) -> tuple[int, ...]:
        """Return the edit counts that are scored if nothing is left to edit or to score; else none."""
        wanted = sorted(scorable(self.plan, self.published, self.collapsed_at))
        finished = self.is_edited and not self.running and all(map(self.is_scored, wanted))
        return tuple(wanted) if finished else ()

    def share(self) -> tuple[int, int, int]:
        """Return the trajectory's current share of the totals; a fine-tuning has no edits of its own."""
        checkpoints = len(self.plan.wanted)
        if self.failed or self.orphaned or self.collapsed_at is not None or self.stopped_at is not None:
            checkpoints = len(scorable(self.plan, self.published, self.collapsed_at))
        scores = checkpoints * len(self.plan.evaluations)
        if self.plan.parent is not None:
            return int(self.is_edited), 0, scores
        if self.is_edited:
            return 1, self.plan.edits if self.stopped_at is None else self.stopped_at, scores
        return 0, max([self.running_edits, *self.published, 0]), scores

    def stop(self, edits: int) -> int:
        """Stop it at an edit count, beyond which nothing counts any more; return how many scores that takes away."""
        self.stopped_at = edits
        self.published = {count for count in self.published if count <= edits}
        if self.collapsed_at is not None and self.collapsed_at > edits:
            self.collapsed_at = None
        gone = sum(count for at, count in self.scored.items() if at > edits)
        self.scored = Counter({at: count for at, count in self.scored.items() if at <= edits})
        return gone

    def counts(self, edits: int) -> bool:
        """Return whether a checkpoint counts: it is not beyond the point where a watchdog stopped the trajectory."""
        return self.stopped_at is None or edits <= self.stopped_at
