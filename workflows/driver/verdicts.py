"""A watchdog's verdicts: computed from scores, recorded, fenced, and everything beyond them removed."""

import logging

from sphere_core.checkpoint_files import checkpoints_in, delete_checkpoint
from sphere_core.foundation.storage import Storage
from workflows.driver.backlog import Backlog
from workflows.driver.watchdog import Verdict, WatchdogReadings, read_readings, verdict
from workflows.store.layout import DETAILS, checkpoints_folder, keys_folder, keys_position, scored_name, stopped_path
from workflows.store.lease import read_lease, take_lease
from workflows.store.plan import SweepPlan, TrajectoryPlan
from workflows.store.policies import Watchdog
from workflows.store.records import Lease, Stop
from workflows.store.state import SweepFiles, SweepState, TrajectoryState

__all__ = [
    "Verdicts",
    "discard_beyond",
    "forget_other_verdicts",
    "has_other_verdicts",
    "lies_beyond",
    "record_verdict",
]

_LOGGER = logging.getLogger(__name__)


class Verdicts:
    """Applies the plan's watchdog to the trajectories of one backlog; without one, does nothing."""

    def __init__(self, plan: SweepPlan, backlog: Backlog, storage: Storage) -> None:
        self._limits = plan.watchdog
        self._backlog = backlog
        self._storage = storage
        self._plans = {trajectory.id: trajectory for trajectory in plan.trajectories}
        # The readings of each checkpoint's rows, read once.
        self._readings: dict[tuple[str, int], WatchdogReadings] = {}

    def owed(self) -> bool:
        """Return whether the scores on storage would stop a trajectory that is not stopped yet."""
        return self._limits is not None and any(
            self._backlog.stopped_at(plan.id) is None and self._find(plan, self._limits) is not None
            for plan in self._plans.values()
        )

    def judge_all(self) -> None:
        """Judge every trajectory: a killed driver may have left scores without a verdict."""
        if self._limits is not None:
            for trajectory_id in self._plans:
                self.judge(trajectory_id)

    def judge(self, trajectory_id: str) -> None:
        """Stop a trajectory whose scores exceed the limits, and remove everything beyond; a second call changes
        nothing.

        While its replica still runs, only the verdict and the fence are written; the rest is removed when the replica
        has returned.
        """
        if self._limits is None:
            return
        plan, last = self._plans[trajectory_id], self._backlog.stopped_at(trajectory_id)
        if last is None:
            found = self._find(plan, self._limits)
            if found is None:
                return
            _LOGGER.warning("trajectory %s %s", trajectory_id, found.reason)
            record_verdict(self._storage, plan, self._limits, found)
            self._backlog.stop(trajectory_id, found.edits)
            last = found.edits
        if not self._backlog.is_running(trajectory_id):
            discard_beyond(self._storage, plan, last)

    def _find(self, plan: TrajectoryPlan, limits: Watchdog) -> Verdict | None:

        def readings(edits: int) -> WatchdogReadings | None:
            key = plan.id, edits
            if key not in self._readings and self._backlog.is_scored(plan.id, edits):
                paths = [plan.rows_path(edits, evaluation) for evaluation in plan.evaluations]
                self._readings[key] = read_readings(self._storage, paths)
            return self._readings.get(key)

        return verdict(limits, plan.wanted, readings)


def record_verdict(storage: Storage, plan: TrajectoryPlan, limits: Watchdog, found: Verdict) -> None:
    """Record that a trajectory is stopped, then take its lease, so that a replica that still runs it cannot publish."""
    Stop(edits=found.edits, reason=found.reason, watchdog=limits).write(storage, stopped_path(plan.id))
    standing = read_lease(storage, plan.id)
    if standing is not None:
        take_lease(storage, plan.id, Lease(attempt=standing.attempt + 1, owner="watchdog"))


def discard_beyond(storage: Storage, plan: TrajectoryPlan, edits: int) -> None:
    """Remove checkpoints beyond an edit count, their rows and details, and stored keys.

    How far a trajectory ran ahead depends on timing, so none of it may remain.
    """
    checkpoints = storage.child(checkpoints_folder(plan.id))
    beyond = sorted({later for later in (*plan.wanted, *checkpoints_in(checkpoints)) if later > edits})
    if not beyond:
        return
    # Rows and checkpoints are removed last: they show that something is left to remove.
    names = tuple(f"{scored_name(plan.id, later)}-" for later in beyond)
    for path in storage.list(DETAILS):
        if path.rpartition("/")[2].startswith(names):
            storage.delete(path)
    for path in storage.list(keys_folder(plan.id)):
        if keys_position(path) > edits:
            storage.delete(path)
    for later in beyond:
        for evaluation in plan.evaluations:
            storage.delete(plan.rows_path(later, evaluation))
        delete_checkpoint(checkpoints, later)


def forget_other_verdicts(storage: Storage, plan: SweepPlan, state: SweepState) -> None:
    """Withdraw verdicts of limits other than the plan's: those trajectories are judged again, and may continue."""
    for found in state.trajectories:
        if _is_by_others(plan, found):
            storage.delete(stopped_path(found.plan.id))
        elif found.stopped is not None:
            discard_beyond(storage, found.plan, found.stopped.edits)


def has_other_verdicts(plan: SweepPlan, state: SweepState) -> bool:
    """Return whether there is a verdict of limits other than the plan's."""
    return any(_is_by_others(plan, found) for found in state.trajectories)


def lies_beyond(state: SweepState, files: SweepFiles) -> bool:
    """Return whether checkpoints or rows exist beyond a verdict, as a killed driver leaves them; reads no file."""
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
