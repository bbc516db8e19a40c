"""What is done, running, failed or still to do, derived from the files below a sweep's root and nothing else."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

from sphere_core.checkpoint_files import MANIFEST, WEIGHTS, read_manifest
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.store.layout import (
    COMPACTED,
    ERROR_FILE,
    ERRORS,
    MOMENTS,
    PROGRESS_FILE,
    RETRIED,
    ROWS,
    STOPPED_FILE,
    TASK_PROGRESS,
    TRAJECTORIES,
    checkpoint_in,
    checkpoints_folder,
    error_path,
    progress_path,
    stopped_path,
)
from workflows.store.plan import Evaluation, SweepPlan, TrajectoryPlan
from workflows.store.records import Failure, Progress, Stop, TaskProgress

__all__ = ["StateName", "SweepFiles", "SweepState", "TrajectoryState", "derive_state", "scan"]

StateName = Literal["planned", "running", "paused", "edited", "done", "collapsed", "stopped", "failed"]
# A replica reports its progress after a batch, and at least every ten seconds; older reports mean that it is gone.
_SILENCE_SECONDS = 120.0
# Trajectories read in parallel on an object store.
_READERS = 32


@dataclass(frozen=True)
class SweepFiles:
    """The relevant names among all files of a sweep, from one listing.

    `checkpoints` are those with a manifest, `whole` those with weights, by trajectory.
    """

    checkpoints: dict[str, frozenset[int]]
    whole: dict[str, frozenset[int]]
    rows: frozenset[str]
    moments: frozenset[str]
    errors: frozenset[str]
    progress: frozenset[str]
    stopped: frozenset[str]
    compacted: frozenset[str] = frozenset()
    # Ids of all trajectories of which anything is stored.
    trajectories: frozenset[str] = frozenset()
    task_progress: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TrajectoryState:
    """The state of one trajectory, as derived from its files."""

    plan: TrajectoryPlan
    state: StateName
    published: tuple[int, ...]
    collapsed_at: int | None
    missing: tuple[tuple[int, Evaluation], ...]
    progress: Progress | None = None
    error: Failure | None = None
    stopped: Stop | None = None
    # A fine-tuning of a checkpoint that its trajectory does not reach, or reaches collapsed.
    orphaned: bool = False

    @property
    def edits_done(self) -> int:
        """The position (edits, or steps of a fine-tuning) that is safe on storage, or more if the replica has reported
        more."""
        if self.stopped is not None:
            return self.stopped.edits
        return max([0, *self.published, 0 if self.progress is None else self.progress.edits])

    @property
    def to_score(self) -> tuple[int, ...]:
        """Published checkpoints that are to be scored: the wanted ones, and the one at which it collapsed."""
        return tuple(sorted(scorable(self.plan, self.published, self.collapsed_at)))

    @property
    def is_edited(self) -> bool:
        """Whether nothing is left to edit."""
        ended = self.stopped is not None or self.collapsed_at is not None or self.orphaned
        return ended or set(self.plan.wanted) <= set(self.published)

    @property
    def is_open(self) -> bool:
        """Whether there is something left to edit that can still be edited."""
        return not self.is_edited and self.state != "failed"

    @property
    def edits_per_second(self) -> float:
        """The rate of the last attempt; 0 if it has not reported one."""
        return 0.0 if self.progress is None else self.progress.edits_per_second

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to edit or to score."""
        return self.state in ("done", "collapsed", "stopped")


@dataclass(frozen=True)
class SweepState:
    """The state of a whole sweep, as derived from its files."""

    trajectories: tuple[TrajectoryState, ...]
    bases_missing: tuple[str, ...]
    # Failures of other tasks, by the path of their records.
    task_failures: Mapping[str, Failure]
    # Ids of stored trajectories that the plan does not name: those of an earlier plan.
    earlier: tuple[str, ...] = ()
    # Builds of second moments that have reported lately.
    builds: tuple[TaskProgress, ...] = ()

    @property
    def edits_done(self) -> int:
        """Edits of all trajectories together; a fine-tuning has none of its own."""
        return sum(found.edits_done for found in self.trajectories if found.plan.parent is None)

    @property
    def is_complete(self) -> bool:
        """Whether every trajectory is edited and scored, and every unedited model scored."""
        return not self.bases_missing and all(t.is_finished for t in self.trajectories)

    @property
    def failures(self) -> list[Failure]:
        """The records of everything that failed."""
        return [t.error for t in self.trajectories if t.error is not None] + list(self.task_failures.values())


def scan(storage: Storage) -> SweepFiles:
    """List a sweep's files once and sort their names; reads no file content."""
    checkpoints: dict[str, set[int]] = {}
    whole: dict[str, set[int]] = {}
    errors: set[str] = set()
    progress: set[str] = set()
    stopped: set[str] = set()
    trajectories: set[str] = set()
    of_checkpoints = {MANIFEST: checkpoints, WEIGHTS: whole}
    of_trajectories = {ERROR_FILE: errors, PROGRESS_FILE: progress, STOPPED_FILE: stopped}
    for path in storage.list(TRAJECTORIES):
        found = checkpoint_in(path)
        trajectories.add(path.split("/")[1])
        if found is None:
            of_trajectories.get(path.rpartition("/")[2], set()).add(path)
        elif found[1].name in of_checkpoints:
            of_checkpoints[found[1].name].setdefault(found[0], set()).add(found[1].position)
    return SweepFiles(
        checkpoints={key: frozenset(found) for key, found in checkpoints.items()},
        whole={key: frozenset(found) for key, found in whole.items()},
        rows=frozenset(storage.list(ROWS)),
        moments=frozenset(storage.list(MOMENTS)),
        errors=frozenset([*errors, *(path for path in storage.list(ERRORS) if f"/{RETRIED}/" not in path)]),
        progress=frozenset(progress),
        stopped=frozenset(stopped),
        compacted=frozenset(storage.list(COMPACTED)),
        trajectories=frozenset(trajectories),
        task_progress=frozenset(storage.list(TASK_PROGRESS)),
    )


def scorable(plan: TrajectoryPlan, published: Iterable[int], collapsed_at: int | None) -> set[int]:
    """Return the published checkpoints that are to be scored."""
    return {edits for edits in published if edits in plan.wanted or edits == collapsed_at}


def derive_state(storage: Storage, plan: SweepPlan, files: SweepFiles | None = None) -> SweepState:
    """Derive the state of every trajectory and every unedited model of a plan; writes nothing.

    Reads the plan's small records (progress, errors, stops, last manifests) after one listing; `files` passes a listing
    that exists already. Damaged records count as missing, except failures. Raises StorageError if storage fails.
    """
    found = files if files is not None else scan(storage)
    now = time.time()

    def look(trajectory: TrajectoryPlan) -> TrajectoryState:
        return _trajectory(storage, trajectory, found, now)

    if storage.is_local:
        trajectories = tuple(map(look, plan.trajectories))
    else:
        # A few small files per trajectory, each a round trip to an object store.
        with ThreadPoolExecutor(_READERS) as pool:
            trajectories = tuple(pool.map(look, plan.trajectories))
    trajectories = _with_orphans(trajectories)
    bases = tuple(base.rows_path for base in plan.bases if base.rows_path not in found.rows)
    failures = {
        path: Failure.read_or_unreadable(storage, path, task=PurePosixPath(path).stem)
        for path in sorted(found.errors)
        if path.startswith(f"{ERRORS}/")
    }
    earlier = found.trajectories - {trajectory.id for trajectory in plan.trajectories}
    reports = (TaskProgress.read(storage, path) for path in sorted(found.task_progress))
    builds = tuple(report for report in reports if report is not None and now - report.at < _SILENCE_SECONDS)
    return SweepState(trajectories, bases, failures, tuple(sorted(earlier)), builds)


def _with_orphans(found: tuple[TrajectoryState, ...]) -> tuple[TrajectoryState, ...]:
    """Return the states, where a fine-tuning whose checkpoint will never be has ended as its trajectory has."""
    by_id = {one.plan.id: one for one in found}

    def look(one: TrajectoryState) -> TrajectoryState:
        parent = None if one.plan.parent is None else by_id.get(one.plan.parent.trajectory)
        if one.is_edited or parent is None or one.plan.parent is None:
            return one
        edits = one.plan.parent.edits
        if parent.collapsed_at is not None and parent.collapsed_at <= edits:
            return replace(one, state="collapsed", orphaned=True)
        if parent.stopped is not None and parent.stopped.edits < edits:
            return replace(one, state="stopped", orphaned=True)
        return one

    return tuple(map(look, found))


def _trajectory(storage: Storage, plan: TrajectoryPlan, files: SweepFiles, now: float) -> TrajectoryState:
    # An unreadable verdict counts as missing and is computed again.
    stopped = Stop.read(storage, stopped_path(plan.id)) if stopped_path(plan.id) in files.stopped else None
    published = tuple(sorted(files.checkpoints.get(plan.id, ())))
    if stopped is not None:
        published = tuple(edits for edits in published if edits <= stopped.edits)
    collapsed_at = _collapsed_at(storage, plan, published)
    missing = tuple(
        (edits, evaluation)
        for edits in sorted(scorable(plan, published, collapsed_at))
        for evaluation in plan.evaluations
        if plan.rows_path(edits, evaluation) not in files.rows
    )
    has_progress = progress_path(plan.id) in files.progress
    progress = Progress.read(storage, progress_path(plan.id)) if has_progress else None
    error = None
    if error_path(plan.id) in files.errors:
        error = Failure.read_or_unreadable(storage, error_path(plan.id), task=f"trajectory-{plan.id}")
    edited = stopped is not None or collapsed_at is not None or set(plan.wanted) <= set(published)
    name = _state_name(error, edited, collapsed_at, missing, progress, published, now)
    return TrajectoryState(
        plan=plan,
        state="stopped" if stopped is not None and not missing else name,
        published=published,
        collapsed_at=collapsed_at,
        missing=missing,
        progress=progress,
        error=error,
        stopped=stopped,
    )


def _state_name(
    error: Failure | None,
    edited: bool,
    collapsed_at: int | None,
    missing: tuple[tuple[int, Evaluation], ...],
    progress: Progress | None,
    published: tuple[int, ...],
    now: float,
) -> StateName:
    if error is not None and not edited:
        return "failed"
    if edited:
        if missing:
            return "edited"
        return "done" if collapsed_at is None else "collapsed"
    if progress is not None and progress.state == "running" and now - progress.at < _SILENCE_SECONDS:
        return "running"
    return "paused" if published or progress is not None else "planned"


def _collapsed_at(storage: Storage, plan: TrajectoryPlan, published: tuple[int, ...]) -> int | None:
    """Return the edit count at which a trajectory collapsed; a collapsed checkpoint is always its last one."""
    if not published:
        return None
    try:
        collapsed = read_manifest(storage.child(checkpoints_folder(plan.id)), published[-1]).collapsed
    except (InputError, FileNotFoundError):
        # A damaged checkpoint is noticed when it is read; its trajectory makes it again.
        return None
    return published[-1] if collapsed else None
