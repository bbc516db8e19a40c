"""Storage: atomic publishing, listing without scratch, and the same behaviour off the local disk."""

import uuid
from pathlib import Path

import pytest

from sphere_core.storage import Storage


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(tmp_path / "root" if request.param == "local" else f"memory://{uuid.uuid4().hex}/root")


def test_write_read_list_delete(storage: Storage) -> None:
    assert storage.list() == []
    storage.write_bytes("b/two.json", b"2")
    storage.write_bytes("a.json", b"1")
    storage.write_bytes("a.json", b"one")
    assert storage.read_bytes("a.json") == b"one"
    assert storage.list() == ["a.json", "b/two.json"]
    assert storage.list("b") == ["b/two.json"]
    assert storage.child("b").list() == ["two.json"]
    assert storage.exists("b/two.json")
    storage.delete("b")
    storage.delete("nothing")
    assert storage.list() == ["a.json"]
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("b/two.json")


def test_exclusive_creation_has_one_winner(storage: Storage) -> None:
    assert storage.create_exclusive("lease.json", b"first")
    assert not storage.create_exclusive("lease.json", b"second")
    assert storage.read_bytes("lease.json") == b"first"


def test_scratch_of_a_killed_writer_is_never_listed(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.write_bytes("rows/x.parquet", b"x")
    (tmp_path / "rows" / ".x.parquet.123.tmp").write_bytes(b"half")
    assert storage.list() == ["rows/x.parquet"]
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == [".x.parquet.123.tmp", "x.parquet"]
