import json
from pathlib import Path

import pytest

from sphere_core.checkpoint_files import (
    MANIFEST,
    STATE,
    TENSOR_FILES,
    WEIGHTS,
    CheckpointFile,
    Manifest,
    checkpoint_file,
    checkpoints_in,
    delete_checkpoint,
    read_manifest,
    trim_checkpoint,
)
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage

WHOLE = Manifest("t", 4, False, (("{}", "{} is"), ("{}.",)), {"rank": 3, "norm": 0.5}, {WEIGHTS: "a", STATE: "b"})


def put(storage: Storage, edits: int, manifest: bytes) -> None:
    for name in TENSOR_FILES:
        storage.write_bytes(checkpoint_file(edits, name), b"tensors")
    storage.write_bytes(checkpoint_file(edits, MANIFEST), manifest)


@pytest.mark.parametrize("edits", [0, 7, 999_999, 1_000_000])
@pytest.mark.parametrize("name", [*TENSOR_FILES, MANIFEST])
def test_a_path_is_taken_apart_as_it_was_put_together(edits: int, name: str) -> None:
    assert CheckpointFile.of(checkpoint_file(edits, name)) == CheckpointFile(edits, name)


@pytest.mark.parametrize("path", ["000004", "000004/", "four/manifest.json", "²/manifest.json", "000004/a/b", "", "/x"])
def test_other_paths_are_no_file_of_a_checkpoint(path: str) -> None:
    assert CheckpointFile.of(path) is None


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    put(Storage(tmp_path), 4, WHOLE.encode())
    assert read_manifest(Storage(tmp_path), 4) == WHOLE
    with pytest.raises(FileNotFoundError):
        read_manifest(Storage(tmp_path), 6)


def test_the_bytes_of_a_manifest_are_those_of_the_first_release() -> None:
    assert WHOLE.encode() == (
        b'{\n "collapsed": false,\n "contexts": [\n  [\n   "{}",\n   "{} is"\n  ],\n  [\n   "{}."\n  ]\n ],\n'
        b' "edits": 4,\n "files": {\n  "state.safetensors": "b",\n  "weights.safetensors": "a"\n },\n "format": 1,\n'
        b' "scalars": {\n  "norm": 0.5,\n  "rank": 3\n },\n "trajectory_id": "t"\n}'
    )


def without(key: str) -> bytes:
    record = json.loads(WHOLE.encode())
    return json.dumps({name: value for name, value in record.items() if name != key}).encode()


DAMAGED = [
    b"",
    b"\x80\x81",
    b"[]",
    b"null",
    WHOLE.encode()[:-9],
    b'{"files": 1}',
    WHOLE.encode().replace(b"weights", b"other"),
]


@pytest.mark.parametrize("data", [*DAMAGED, without("files"), without("collapsed"), without("trajectory_id")])
def test_a_damaged_manifest_is_named(tmp_path: Path, data: bytes) -> None:
    put(Storage(tmp_path), 4, data)
    with pytest.raises(InputError, match="not a checkpoint's") as refused:
        read_manifest(Storage(tmp_path), 4)
    assert "000004" in str(refused.value.where)


def test_trimming_leaves_the_manifest_and_deleting_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for edits in (4, 6):
        put(storage, edits, WHOLE.encode())
    trim_checkpoint(storage, 4)
    assert [path for path in storage.list() if path.startswith("000004")] == ["000004/manifest.json"]
    assert checkpoints_in(storage) == [4, 6]
    delete_checkpoint(storage, 4)
    delete_checkpoint(storage, 8)
    assert checkpoints_in(storage) == [6]
    assert len(storage.list()) == len(TENSOR_FILES) + 1
