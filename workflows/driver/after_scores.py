"""What follows once scores stand: a watchdog's verdict on a trajectory, and checkpoints that need not stay whole."""

import logging

from sphere_core.foundation.storage import Storage
from workflows.driver.backlog import Board
from workflows.driver.verdicts import discard_beyond, record_verdict
from workflows.store.trimming import trim

__all__ = ["judge", "trim_scored"]

_LOGGER = logging.getLogger(__name__)


def judge(board: Board, storage: Storage, trajectory_id: str) -> None:
    """Stop a trajectory whose scores pass the watchdog's limits, and clear away what lies beyond.

    While its replica still runs the fence is all there is; what lies beyond goes once the replica has come back.
    """
    tracked, limits = board.tracked[trajectory_id], board.sweep.plan.watchdog
    if limits is None:
        return
    if tracked.stopped_at is None:
        found = board.verdict(trajectory_id, limits)
        if found is None:
            return
        _LOGGER.warning("trajectory %s %s", trajectory_id, found.reason)
        record_verdict(storage, tracked.plan, limits, found)
        board.stop(trajectory_id, found.edits)
    if not tracked.running and tracked.stopped_at is not None:
        discard_beyond(storage, tracked.plan, tracked.stopped_at)


def trim_scored(board: Board, storage: Storage, trajectory_id: str) -> None:
    """Take weights and state from the checkpoints that the sweep does not keep and nothing needs any more."""
    for edits in board.to_trim(trajectory_id):
        trim(storage, trajectory_id, edits)
