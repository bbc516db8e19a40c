"""Which checkpoints keep their tensors: all, the last few, or one per interval. The manifests of the others are kept.

A checkpoint that nothing requires any more loses its weights and its editor's state. It still counts as published, so
nothing is repeated; rows and the tables behind them are never removed.
"""

from collections.abc import Callable, Collection

from sphere_core.checkpoint_files import checkpoint_folder, trim_checkpoint
from sphere_core.foundation.storage import Storage
from workflows.store.layout import checkpoints_folder
from workflows.store.plan import TrajectoryPlan
from workflows.store.policies import Keep
from workflows.store.state import SweepFiles, SweepState

__all__ = ["forget_trimmed", "trim", "trimmable"]

# A damaged checkpoint is skipped in favour of the previous one: a running trajectory keeps this many to resume from.
TO_RESUME_FROM = 2


def trimmable(
    plan: TrajectoryPlan, keep: Keep, published: Collection[int], *, edited: bool, scored: Callable[[int], bool]
) -> list[int]:
    """Return the edit counts of checkpoints whose weights and state nothing requires any more.

    Required are: what `keep` says, what is fine-tuned, what is not scored yet, what the next checkpoint is compared
    with until that one is scored, and the newest ones while the trajectory runs.
    """
    order = sorted(published)
    newest = set() if edited else set(order[-TO_RESUME_FROM:])
    found = []
    for place, edits in enumerate(order[:-1]):
        after = next((later for later in order[place + 1 :] if later in plan.wanted), None)
        is_read = after is not None and not scored(after)
        kept = edits in newest or edits in plan.tuned_at or keep.keeps(edits, order)
        if not (kept or is_read) and scored(edits):
            found.append(edits)
    return found


def trim(storage: Storage, trajectory_id: str, edits: int) -> None:
    """Remove weights and state of a checkpoint; a second call does nothing."""
    trim_checkpoint(storage.child(checkpoints_folder(trajectory_id)), edits)


def forget_trimmed(storage: Storage, state: SweepState, files: SweepFiles) -> int:
    """Delete trimmed checkpoints that a newly added evaluator is to score, so that their trajectories make them again.

    Returns how many. A second call deletes nothing more.
    """
    withdrawn = 0
    for found in state.trajectories:
        whole = files.whole.get(found.plan.id, frozenset())
        for edits in {edits for edits, _ in found.missing} - whole:
            storage.delete(f"{checkpoints_folder(found.plan.id)}/{checkpoint_folder(edits)}")
            withdrawn += 1
    return withdrawn
