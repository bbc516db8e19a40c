"""A writer that has lost its right in the middle of a checkpoint publishes none of what is left of it."""

import os
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


def test_the_guard_is_asked_after_what_takes_time_and_before_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened, flush = [], os.fsync

    def slow_flush(handle: int) -> None:
        happened.append("flushed")
        flush(handle)

    def guard() -> None:
        happened.append("published" if (tmp_path / "w.bin").exists() else "asked")

    monkeypatch.setattr(os, "fsync", slow_flush)
    Storage(tmp_path).write_file("w.bin", lambda scratch: scratch.write_bytes(b"w"), guard=guard)
    assert happened == ["flushed", "asked"]
    assert (tmp_path / "w.bin").read_bytes() == b"w"


def test_on_an_object_store_too_nothing_is_published_after_the_guard_has_raised() -> None:
    storage = Storage("memory://guarded")

    def lost() -> None:
        raise LostError

    with pytest.raises(LostError):
        storage.write_file("w.bin", lambda scratch: scratch.write_bytes(b"w"), guard=lost)
    assert not storage.exists("w.bin")
