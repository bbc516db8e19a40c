"""Find files below a sweep's root that nothing requires any more, and remove them."""

import re
from dataclasses import dataclass

from sphere_core.checkpoint_files import MANIFEST, TENSOR_FILES
from sphere_core.foundation.storage import Storage
from workflows.store.layout import MOMENTS, TRAJECTORIES, checkpoint_in, checkpoint_path, moments_path
from workflows.store.plan import SweepPlan
from workflows.store.state import SweepFiles, SweepState
from workflows.store.trimming import trimmable

__all__ = ["Garbage", "collect", "find_garbage"]

# Younger scratch files may belong to a live writer.
_SCRATCH_SECONDS = 600.0
# Null spaces are stored next to second moments under other names, and are kept.
_MOMENTS_FILE = re.compile(rf"{MOMENTS}/[0-9a-f]{{16}}\.safetensors")


@dataclass(frozen=True)
class Garbage:
    """A file that can be removed: path, size in bytes, reason."""

    path: str
    size: int
    why: str


def find_garbage(storage: Storage, plan: SweepPlan, state: SweepState, files: SweepFiles) -> list[Garbage]:
    """Return the files that neither scores nor resuming require, by reason; removes nothing.

    These are: scratch files of killed writers; checkpoints without a manifest, which only those writers could have
    finished; checkpoints published because of a stop, if there is a later one; weights and state that the sweep's
    `keep` gives up; second moments that the plan does not name. Rows are kept, and so are trajectories that the plan
    does not name.
    """
    found = [
        Garbage(path, size, "scratch of killed writers")
        for path, size, age in storage.scratch_files()
        if age > _SCRATCH_SECONDS
    ]
    found += [_garbage(storage, path, why) for path, why in _checkpoint_garbage(storage, plan, state, files)]
    named = {moments_path(recipe.key) for recipe in plan.recipes}
    unnamed = sorted(path for path in files.moments - named if _MOMENTS_FILE.fullmatch(path))
    found += [_garbage(storage, path, "second moments of no plan") for path in unnamed]
    return found


def collect(storage: Storage, garbage: list[Garbage]) -> None:
    """Remove the files in the given order; a second call does nothing."""
    for one in garbage:
        storage.delete(one.path)


def _checkpoint_garbage(
    storage: Storage, plan: SweepPlan, state: SweepState, files: SweepFiles
) -> list[tuple[str, str]]:
    """Return paths below checkpoint folders, each with its reason; a manifest comes before the files it lists."""
    found: list[tuple[str, str]] = []
    for one in state.trajectories:
        missing = {edits for edits, _ in one.missing}
        last = max(one.published, default=0)
        scored = set(one.published) - missing
        useless = trimmable(one.plan, plan.keep, one.published, edited=one.is_edited, scored=scored.__contains__)
        for edits in one.published:
            tensors = [checkpoint_path(one.plan.id, edits, name) for name in TENSOR_FILES]
            if edits < last and edits not in one.to_score:
                of_stop = [checkpoint_path(one.plan.id, edits, MANIFEST), *tensors]
                found += [(path, "checkpoints of a stop, with a later one there") for path in of_stop]
            elif edits in useless and edits in files.whole.get(one.plan.id, ()):
                found += [(path, f"not kept: {plan.keep.text}") for path in tensors]
    listed = set(storage.list(TRAJECTORIES))
    for path in sorted(listed):
        place = checkpoint_in(path)
        if place is not None and place[1].position not in files.checkpoints.get(place[0], ()):
            found.append((path, "checkpoints that no attempt has finished"))
    return [(path, why) for path, why in found if path in listed]


def _garbage(storage: Storage, path: str, why: str) -> Garbage:
    return Garbage(path, storage.size(path), why)
