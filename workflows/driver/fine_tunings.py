"""Which fine-tunings of a sweep can start: those whose checkpoint is published and counts."""

from collections import defaultdict
from collections.abc import Mapping

from workflows.driver.tracking import TrackedTrajectory
from workflows.store.plan import SweepPlan

__all__ = ["FineTunings"]


class FineTunings:
    """The fine-tunings of each trajectory, and what becomes of them as it goes."""

    def __init__(self, plan: SweepPlan, tracked: Mapping[str, TrackedTrajectory]) -> None:
        """`tracked` are the trajectories by their id, as they are followed during the run."""
        self._tracked = tracked
        self._is_watched = plan.watchdog is not None
        self._of: dict[str, list[str]] = defaultdict(list)
        for trajectory in plan.trajectories:
            if trajectory.parent is not None:
                self._of[trajectory.parent.trajectory].append(trajectory.id)

    def waiting(self, trajectory_id: str) -> list[TrackedTrajectory]:
        """Return the fine-tunings of a trajectory's checkpoints that neither wait in a queue, run nor have ended; those
        that never can start are noted as ended first."""
        children = [self._tracked[child] for child in self._of.get(trajectory_id, ())]
        found = [one for one in children if not (one.is_edited or one.failed or one.queued or one.running)]
        for child in found:
            self.note(child)
        return found

    def note(self, child: TrackedTrajectory) -> None:
        """Note of a trajectory whether it can never start; one that has ended stays as it is."""
        child.orphaned = child.orphaned or (not child.is_edited and self.is_orphaned(child))

    def can_start(self, child: TrackedTrajectory) -> bool:
        """Return whether a trajectory can start as far as its parent is concerned; true for one that has none.

        With a watchdog all scores up to the checkpoint must be there, so that it cannot be withdrawn later.
        """
        origin = child.plan.parent
        if origin is None:
            return True
        parent = self._tracked[origin.trajectory]
        judged = (edits for edits in parent.plan.wanted if edits <= origin.edits)
        return (
            not self.is_orphaned(child)
            and origin.edits in parent.published
            and (not self._is_watched or all(parent.is_scored(edits) for edits in judged))
        )

    def is_orphaned(self, child: TrackedTrajectory) -> bool:
        """Return whether the checkpoint of a fine-tuning will never be, or is a collapsed one."""
        origin = child.plan.parent
        if origin is None:
            return False
        parent = self._tracked[origin.trajectory]
        collapsed = parent.collapsed_at is not None and parent.collapsed_at <= origin.edits
        return collapsed or (parent.stopped_at is not None and parent.stopped_at < origin.edits)
