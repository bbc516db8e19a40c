"""Which sweep a root belongs to: another sweep does not take it silently."""

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.store.layout import PLAN_FILE, trajectory_folder
from workflows.store.plan import SweepPlan, TrajectoryPlan, read_plan

__all__ = ["earlier_line", "require_own_root"]

_FOLDERS_SHOWN = 5


def require_own_root(storage: Storage, plan: SweepPlan) -> None:
    """Raise InputError if a root holds the plan of another sweep: another name, or trajectories that `plan` lacks.

    A plan may grow. A trajectory whose plugin has changed is followed by the one of the same cell with the new code.
    A damaged plan names no sweep, and is written again.
    """
    if not storage.exists(PLAN_FILE):
        return
    try:
        stored = read_plan(storage)
    except InputError:
        return
    if stored.name != plan.name:
        fault = f"this root belongs to the sweep '{stored.name}', not to '{plan.name}'"
    elif dropped := _dropped(stored, plan):
        one = dropped[0]
        fault = (
            f"this root belongs to another version of the sweep '{plan.name}': {len(dropped)} of its "
            f"{len(stored.trajectories)} trajectories are not in this sweep file, the first is {one.id} "
            f"({one.model}, {one.title}, {one.dataset}, seed {one.seed})"
        )
        if stored.overrides != plan.overrides:
            fault += f"; it was run {f'with {stored.set_options}' if stored.overrides else 'without --set'}"
    else:
        return
    raise InputError(
        fault,
        where=storage.uri,
        remedy="give another --root, or --replace to take this one: what is stored stays",
    )


def earlier_line(ids: tuple[str, ...]) -> str:
    """Return how many trajectories of an earlier sweep file a root holds, and where, as one line."""
    folders = ", ".join(trajectory_folder(one) for one in ids[:_FOLDERS_SHOWN])
    more = f" and {len(ids) - _FOLDERS_SHOWN} more" if len(ids) > _FOLDERS_SHOWN else ""
    return (
        f"trajectories of an earlier plan, kept and left out of tables and views: {len(ids)} ({folders}{more}); "
        "their rows have the id in their file names"
    )


def _dropped(stored: SweepPlan, plan: SweepPlan) -> list[TrajectoryPlan]:
    ids = {one.id for one in plan.trajectories}
    cells = {_cell(one) for one in plan.trajectories}
    return [
        one for one in stored.trajectories if one.id not in ids and not (stored.code_of(one) and _cell(one) in cells)
    ]


def _cell(one: TrajectoryPlan) -> tuple[object, ...]:
    # What a plugin's code makes of the files changes with it.
    kinds = {name.partition("/")[0] for name in one.code}
    model = one.model if "family" in kinds else one.model_digest
    stream = (one.dataset, one.order) if "dataset" in kinds else one.stream_digest
    return (model, one.dtype, one.title, stream, one.seed, one.batch_size, one.edits)
