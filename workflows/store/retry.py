"""Set failure records aside, so that the next run repeats the work; the records are kept in `retried`."""

from collections.abc import Collection

from sphere_core.foundation.errors import InputError, nearest_name
from sphere_core.foundation.storage import Storage
from workflows.store.identifiers import by_prefix, prefixed
from workflows.store.layout import RETRIED, error_path
from workflows.store.plan import SweepPlan
from workflows.store.state import SweepState

__all__ = ["forget_failures"]


def forget_failures(
    storage: Storage, plan: SweepPlan, state: SweepState, *, only: Collection[str] | None = None
) -> list[str]:
    """Set failure records aside, all or those of the trajectories and tasks in `only`; return their names.

    For each, first deletes row files that record the failed scores, then copies the record to `retried/` and deletes
    it, so a kill in between is repaired by a second call. A name may be a unique beginning. Raises InputError, before
    anything is changed, for a name that has not failed and for the beginning of several that have.
    """
    records = {found.plan.id: error_path(found.plan.id) for found in state.trajectories if found.error is not None}
    records |= {failure.task: path for path, failure in state.task_failures.items()}
    # Row files with failed scores: as long as they exist, nothing would be scored again.
    stale = {failure.task: failure.redo or () for failure in state.task_failures.values()}
    named = None if only is None else {_failed(name, records, where=storage.uri) for name in only}
    chosen = [name for name in records if named is None or name in named]
    for name in chosen:
        for path in stale.get(name, ()):
            storage.delete(path)
        _set_aside(storage, records[name])
    return chosen


def _failed(name: str, records: Collection[str], *, where: str) -> str:
    if not prefixed(name, records):
        near = nearest_name(name, records)
        hint = f"did you mean '{near}'? " if near else ""
        known = ", ".join(records) or "nothing has failed"
        raise InputError(f"'{name}' has not failed", where=where, remedy=f"{hint}failed: {known}")
    return by_prefix(name, records, kind="failure", where=where)


def _set_aside(storage: Storage, path: str) -> None:
    folder, _, name = path.rpartition("/")
    stem = name.removesuffix(".json")
    before = [other for other in storage.list(f"{folder}/{RETRIED}") if f"/{stem}-" in other]
    storage.write_bytes(f"{folder}/{RETRIED}/{stem}-{len(before) + 1}.json", storage.read_bytes(path))
    storage.delete(path)
