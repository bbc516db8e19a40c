"""A writer that has lost its right in the middle of a checkpoint publishes none of what is left of it."""

from pathlib import Path

import pytest
import torch

from sphere_core.checkpoint_files import checkpoints_in
from sphere_core.checkpoints import Checkpoint, EditorState, write_checkpoint
from sphere_core.foundation.storage import Storage

CHECKPOINT = Checkpoint("t", 4, {"w": torch.eye(3)}, EditorState({"s": torch.ones(2)}), (("{}",),), collapsed=False)


class LostError(RuntimeError):
    """The lease went to another."""


@pytest.mark.parametrize(("asked", "left"), [(1, []), (2, ["weights"]), (3, ["state", "weights"])])
def test_nothing_is_published_after_the_guard_has_raised(tmp_path: Path, asked: int, left: list[str]) -> None:
    calls = []

    def guard() -> None:
        calls.append(1)
        if len(calls) == asked:
            raise LostError

    with pytest.raises(LostError):
        write_checkpoint(CHECKPOINT, Storage(tmp_path), guard=guard)
    # No manifest, so no checkpoint; and no scratch file.
    assert sorted(path.stem for path in tmp_path.rglob("*") if path.is_file()) == left
    assert checkpoints_in(Storage(tmp_path)) == []
    write_checkpoint(CHECKPOINT, Storage(tmp_path))
    assert checkpoints_in(Storage(tmp_path)) == [4]
