"""Carrying a watchdog's verdict out: the record, the fence, and what lies beyond it."""

import logging

from sphere_core.checkpoint_files import checkpoints_in, delete_checkpoint
from sphere_core.foundation.storage import Storage
from workflows.driver.backlog import Backlog
from workflows.driver.watchdog import Verdict
from workflows.store.layout import DETAILS, checkpoints_folder, keys_folder, scored_name, stopped_path
from workflows.store.lease import Lease, read_lease, take_lease
from workflows.store.plan import SweepPlan, TrajectoryPlan
from workflows.store.policies import Watchdog
from workflows.store.records import Stop
from workflows.store.state import SweepFiles, SweepState, TrajectoryState
from workflows.store.trimming import trim

__all__ = [
    "discard_beyond",
    "forget_other_verdicts",
    "has_other_verdicts",
    "judge",
    "lies_beyond",
    "record_verdict",
    "trim_scored",
]


def record_verdict(storage: Storage, plan: TrajectoryPlan, limits: Watchdog, found: Verdict) -> None:
    """Write down that a trajectory has been stopped, and fence off the replica that may still run it."""
    Stop(edits=found.edits, reason=found.reason, watchdog=limits).write(storage, stopped_path(plan.id))
    standing = read_lease(storage, plan.id)
    if standing is not None:
        take_lease(storage, plan.id, Lease(standing.attempt + 1, "watchdog"))


def discard_beyond(storage: Storage, plan: TrajectoryPlan, edits: int) -> None:
    """Remove checkpoints beyond an edit count, their rows and what is behind those, and kept keys.

    How far a trajectory ran ahead is chance.
    """
    checkpoints = storage.child(checkpoints_folder(plan.id))
    beyond = sorted({later for later in (*plan.wanted, *checkpoints_in(checkpoints)) if later > edits})
    if not beyond:
        return
    # Rows and checkpoints go last: by them it is seen that there is something left to remove.
    names = tuple(f"{scored_name(plan.id, later)}-" for later in beyond)
    for path in storage.list(DETAILS):
        if path.rpartition("/")[2].startswith(names):
            storage.delete(path)
    for path in storage.list(keys_folder(plan.id)):
        if int(path.rpartition("/")[2].partition(".")[0]) > edits:
            storage.delete(path)
    for later in beyond:
        for evaluation in plan.evaluations:
            storage.delete(plan.rows_path(later, evaluation))
        delete_checkpoint(checkpoints, later)


def forget_other_verdicts(storage: Storage, plan: SweepPlan, state: SweepState) -> None:
    """Withdraw verdicts by limits that are not those of the plan: those trajectories are judged anew, and may go on."""
    for found in state.trajectories:
        if _is_by_others(plan, found):
            storage.delete(stopped_path(found.plan.id))
        elif found.stopped is not None:
            discard_beyond(storage, found.plan, found.stopped.edits)


def has_other_verdicts(plan: SweepPlan, state: SweepState) -> bool:
    """Return whether a verdict stands by limits that are not those of the plan."""
    return any(_is_by_others(plan, found) for found in state.trajectories)


def lies_beyond(state: SweepState, files: SweepFiles) -> bool:
    """Return whether checkpoints or rows stand beyond a verdict, as a killed driver leaves them; reads no file."""
    for found in state.trajectories:
        if found.stopped is not None:
            last = found.stopped.edits
            later = [edits for edits in found.plan.wanted if edits > last]
            rows = (found.plan.rows_path(edits, evaluation) for edits in later for evaluation in found.plan.evaluations)
            published = files.checkpoints.get(found.plan.id, frozenset())
            if max(published, default=0) > last or not files.rows.isdisjoint(rows):
                return True
    return False


def _is_by_others(plan: SweepPlan, found: TrajectoryState) -> bool:
    return found.stopped is not None and found.stopped.watchdog != plan.watchdog


_LOGGER = logging.getLogger(__name__)


def judge(backlog: Backlog, storage: Storage, trajectory_id: str) -> None:
    """Stop a trajectory whose scores pass the watchdog's limits, and clear away what lies beyond.

    While its replica still runs the fence is all there is; what lies beyond goes once the replica has come back.
    """
    tracked, limits = backlog.tracked[trajectory_id], backlog.sweep.plan.watchdog
    if limits is None:
        return
    if tracked.stopped_at is None:
        found = backlog.verdict(trajectory_id, limits)
        if found is None:
            return
        _LOGGER.warning("trajectory %s %s", trajectory_id, found.reason)
        record_verdict(storage, tracked.plan, limits, found)
        backlog.stop(trajectory_id, found.edits)
    if not tracked.running and tracked.stopped_at is not None:
        discard_beyond(storage, tracked.plan, tracked.stopped_at)


def trim_scored(backlog: Backlog, storage: Storage, trajectory_id: str) -> None:
    """Take weights and state from the checkpoints that the sweep does not keep and nothing needs any more."""
    for edits in backlog.to_trim(trajectory_id):
        trim(storage, trajectory_id, edits)
