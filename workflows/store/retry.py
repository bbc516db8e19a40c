"""Set failure records aside, so that the next run repeats the work; the records are kept in `retried`."""

from collections.abc import Collection

from sphere_core.foundation.errors import InputError, nearest_name
from sphere_core.foundation.storage import Storage
from workflows.store.layout import RETRIED, error_path
from workflows.store.plan import SweepPlan
from workflows.store.state import SweepState

__all__ = ["forget_failures"]


def forget_failures(
    storage: Storage, plan: SweepPlan, state: SweepState, *, only: Collection[str] | None = None
) -> list[str]:
    """Set failure records aside, all or those of the trajectories and tasks in `only`; return their names.

    For each, first deletes row files that record the failed scores, then copies the record to `retried/` and deletes
    it, so a kill in between is repaired by a second call. Raises InputError for a name that has not failed, before
    anything is changed.
    """
    records = {found.plan.id: error_path(found.plan.id) for found in state.trajectories if found.error is not None}
    records |= {failure.task: path for path, failure in state.task_failures.items()}
    # Row files with failed scores: as long as they exist, nothing would be scored again.
    stale = {failure.task: failure.redo or () for failure in state.task_failures.values()}
    for name in only or ():
        if name not in records:
            near = nearest_name(name, records)
            hint = f"did you mean '{near}'? " if near else ""
            known = ", ".join(records) or "nothing has failed"
            raise InputError(f"'{name}' has not failed", where=storage.uri, remedy=f"{hint}failed: {known}")
    chosen = [name for name in records if only is None or name in only]
    for name in chosen:
        for path in stale.get(name, ()):
            storage.delete(path)
        _set_aside(storage, records[name])
    return chosen


def _set_aside(storage: Storage, path: str) -> None:
    folder, _, name = path.rpartition("/")
    stem = name.removesuffix(".json")
    before = [other for other in storage.list(f"{folder}/{RETRIED}") if f"/{stem}-" in other]
    storage.write_bytes(f"{folder}/{RETRIED}/{stem}-{len(before) + 1}.json", storage.read_bytes(path))
    storage.delete(path)
