"""A checkpoint by its address: a checkpoint's own folder, a trajectory's, or a sweep's with the trajectory named."""

from dataclasses import dataclass

from pydantic import ValidationError

from sphere_core.checkpoint_files import MANIFEST, checkpoints_in
from sphere_core.checkpoints import Checkpoint, read_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.store.identifiers import by_prefix
from workflows.store.layout import CHECKPOINTS, PLAN_FILE, SPEC_FILE, TRAJECTORIES
from workflows.store.plan import read_plan

__all__ = ["FoundCheckpoint", "find_checkpoint"]


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint, what it is a checkpoint of, and the sweep around it (None: `sphere edit` made it)."""

    checkpoint: Checkpoint
    spec: TrajectorySpec
    sweep: Storage | None


def find_checkpoint(address: str, *, trajectory: str | None, edits: int | None) -> FoundCheckpoint:
    """Read the checkpoint at a folder or URL; without `edits`, the last one of the trajectory.

    A trajectory may be named by a unique beginning of its id, in the address too. Raises InputError if there is no
    checkpoint, and if a sweep's folder does not determine the trajectory.
    """
    place = Storage(_whole(address))
    if place.exists(PLAN_FILE):
        return _of_trajectory(place.child(f"{TRAJECTORIES}/{_chosen(place, trajectory)}"), place, edits)
    parent, _, name = place.uri.rpartition("/")
    if name.isdigit() and place.exists(MANIFEST):
        above = Storage(parent or ".")
        if above.exists(SPEC_FILE):
            return _read(above, above, int(name), None)
        return _of_trajectory(_up(above), _up(_up(_up(above))), int(name))
    if place.exists(SPEC_FILE):
        in_sweep = place.exists(CHECKPOINTS)
        return _of_trajectory(place, _up(_up(place)), edits) if in_sweep else _last(place, place, edits, None)
    raise InputError(
        "no checkpoint here",
        where=address,
        remedy=f"give a checkpoint's folder (it holds {MANIFEST}), or a sweep's folder with --trajectory ID",
    )


def _chosen(sweep: Storage, trajectory: str | None) -> str:
    known = {planned.id: planned for planned in read_plan(sweep).trajectories}
    if trajectory is None:
        listed = "; ".join(f"{key} ({p.model}, {p.title}, seed {p.seed})" for key, p in known.items())
        raise InputError("which trajectory of the sweep?", where=sweep.uri, remedy=f"add --trajectory ID: {listed}")
    return by_prefix(trajectory, known, kind="trajectory", where=sweep.uri)


def _whole(address: str) -> str:
    """Return an address below a sweep with the trajectory's id whole, of which it may hold the beginning only."""
    root, below, rest = address.rpartition(f"/{TRAJECTORIES}/")
    prefix, _, inside = rest.partition("/")
    if not below or not prefix or not Storage(root).exists(PLAN_FILE):
        return address
    chosen = _chosen(Storage(root), prefix)
    return f"{root}{below}{chosen}" + (f"/{inside}" if inside else "")


def _of_trajectory(folder: Storage, sweep: Storage, edits: int | None) -> FoundCheckpoint:
    return _last(folder, folder.child(CHECKPOINTS), edits, sweep if sweep.exists(PLAN_FILE) else None)


def _last(folder: Storage, checkpoints: Storage, edits: int | None, sweep: Storage | None) -> FoundCheckpoint:
    published = checkpoints_in(checkpoints)
    if not published or (edits is not None and edits not in published):
        have = ", ".join(str(count) for count in published) or "none yet"
        missing = "no checkpoint" if edits is None else f"no checkpoint after {edits} edits"
        raise InputError(missing, where=checkpoints.uri, remedy=f"checkpoints there: {have}")
    return _read(folder, checkpoints, published[-1] if edits is None else edits, sweep)


def _read(folder: Storage, checkpoints: Storage, edits: int, sweep: Storage | None) -> FoundCheckpoint:
    try:
        spec = TrajectorySpec.model_validate_json(folder.read_bytes(SPEC_FILE))
    except FileNotFoundError as error:
        raise InputError(f"there is no {SPEC_FILE} that says of what this is a checkpoint", where=folder.uri) from error
    except ValidationError as error:
        raise InputError(f"{SPEC_FILE} is not one of this version", where=folder.uri) from error
    return FoundCheckpoint(read_checkpoint(checkpoints, edits), spec, sweep)


def _up(storage: Storage) -> Storage:
    return Storage(storage.uri.rpartition("/")[0] or ".")
