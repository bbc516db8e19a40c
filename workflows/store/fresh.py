"""Forget what a method has computed, so that the next run computes it again."""

from sphere_core.foundation.errors import unknown_name
from sphere_core.foundation.storage import Storage
from workflows.store.layout import (
    COMPACTED,
    DETAILS,
    ERRORS,
    ROWS,
    TIMINGS,
    lease_path,
    spec_path,
    trajectory_folder,
)
from workflows.store.plan import SweepPlan

__all__ = ["forget_method", "require_method"]


def require_method(plan: SweepPlan, method: str) -> list[str]:
    """Return the ids of a method's trajectories; raises InputError, with the nearest name, if the plan has none."""
    found = [one.id for one in plan.trajectories if method in (one.title, one.method)]
    if not found:
        names = {name for one in plan.trajectories for name in (one.title, one.method)}
        raise unknown_name("method of this sweep", method, names, where="--fresh")
    return found


def forget_method(storage: Storage, plan: SweepPlan, method: str) -> int:
    """Delete the rows, details, timings, errors and checkpoints of a method's trajectories; return how many.

    Compacted rows go first, which are read in place of the row files, then rows: a kill in between leaves checkpoints
    to be scored again and never rows of other weights. The lease is kept: a replica that is still at work then cannot
    publish. A second call deletes nothing more.
    """
    ids = require_method(plan, method)
    for top in (COMPACTED, ROWS, DETAILS, TIMINGS, ERRORS):
        for path in storage.list(top):
            if any(one in path for one in ids):
                storage.delete(path)
    for one in ids:
        kept = (lease_path(one), spec_path(one))
        for path in sorted(storage.list(trajectory_folder(one))):
            if path not in kept:
                storage.delete(path)
    return len(ids)
