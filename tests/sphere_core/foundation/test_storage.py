"""Storage: atomic publishing, listing without scratch, and the same behaviour off the local disk."""

import errno
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError, persistently


@pytest.fixture(params=["local", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A new root on each kind of storage; S3 is a real server on loopback."""
    folder = f"{uuid.uuid4().hex}/root"
    if request.param == "s3":
        return Storage(f"{request.getfixturevalue('bucket')}/{folder}")
    return Storage(tmp_path / "root" if request.param == "local" else f"memory://{folder}")


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


def test_large_files_go_by_a_path_of_this_machine(storage: Storage) -> None:
    storage.write_file("a/b.bin", lambda path: path.write_bytes(b"large"))
    assert storage.read_bytes("a/b.bin") == b"large"
    with storage.as_file("a/b.bin") as path:
        assert path.read_bytes() == b"large"
    assert storage.list() == ["a/b.bin"]

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        storage.write_file("a/b.bin", fail)
    assert storage.read_bytes("a/b.bin") == b"large"


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


@pytest.mark.parametrize("storage", ["local", "s3"], indirect=True)
def test_of_many_who_create_at_once_one_wins(storage: Storage) -> None:
    together = threading.Barrier(8)

    def create(number: int) -> bool:
        mine = Storage(storage.uri)
        together.wait()
        return mine.create_exclusive("lock.json", str(number).encode())

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(create, range(8)))
    assert sum(won) == 1
    assert storage.read_bytes("lock.json") == str(won.index(True)).encode()


def test_readers_see_one_version_or_the_other(storage: Storage) -> None:
    versions = [bytes([number]) * 300_000 for number in range(2)]
    storage.write_bytes("weights", versions[0])
    done = threading.Event()

    def rewrite() -> None:
        for turn in range(20):
            storage.write_bytes("weights", versions[turn % 2])
        done.set()

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(rewrite)
        seen = set()
        while not done.is_set():
            seen.add(storage.read_bytes("weights"))
        writing.result()
    assert seen <= set(versions)


def test_what_others_write_is_listed_at_once(storage: Storage) -> None:
    mine, other = Storage(storage.uri), Storage(storage.uri)
    assert mine.list("rows") == []
    other.write_bytes("rows/a.parquet", b"a")
    assert mine.list("rows") == ["rows/a.parquet"]
    other.delete("rows/a.parquet")
    assert not mine.exists("rows/a.parquet")
    assert mine.list() == []


def test_storage_that_answers_passes_and_leaves_nothing(storage: Storage) -> None:
    storage.require_reachable()
    storage.require_writable()
    assert storage._files.find(storage._root) == []


def test_a_missing_bucket_is_found_before_any_work(bucket: str) -> None:
    missing = Storage("s3://no-such-bucket/sweep")
    assert missing.list() == []
    with pytest.raises(InputError, match="cannot be written: FileNotFoundError") as caught:
        missing.require_writable()
    assert caught.value.where == "s3://no-such-bucket/sweep"


def test_missing_credentials_are_explained(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(f"{bucket}/private")
    # File systems are kept by their settings; one that has talked already has credentials already.
    storage._files = type(storage._files)(use_listings_cache=False, skip_instance_cache=True)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    with pytest.raises(InputError, match="cannot be read: NoCredentialsError"):
        storage.require_reachable()


def test_a_folder_that_is_a_file_or_below_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="file is not a folder: nothing can lie below it"):
        Storage(tmp_path / "file" / "root")
    with pytest.raises(InputError, match="this is not a folder"):
        Storage(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="this is not a folder"):
        Storage(tmp_path / "loop")
    (tmp_path / "sweep.yaml").write_bytes(b"")
    with pytest.raises(InputError) as refused:
        Storage(tmp_path / "sweep.yaml")
    assert "'sphere plan' shows" in str(refused.value.remedy)


def test_urls_with_credentials_or_of_no_known_kind_are_refused() -> None:
    with pytest.raises(InputError, match="holds credentials") as caught:
        Storage("s3://AKIA123:se/cret@bucket/sweep")
    assert "cret" not in str(caught.value)
    with pytest.raises(InputError, match="no file system for this storage"):
        Storage("carrier-pigeon://coop/sweep")
    assert Storage("memory://bucket/a:b@c").uri == "memory://bucket/a:b@c"


def test_what_is_tried_again_and_what_is_not() -> None:
    def failing(errors: list[Exception]) -> Callable[[], str]:
        def call() -> str:
            if errors:
                raise errors.pop(0)
            return "done"

        return call

    trying = {"where": "there", "faults": Exception, "patience": (0.0, 0.0)}
    assert persistently(failing([OSError(5, "io"), ValueError("odd")]), **trying) == "done"
    with pytest.raises(StorageError, match="there: OSError: "):
        persistently(failing([OSError(5, "io")] * 3), **trying)
    left: list[Exception] = [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.ENOSPC, "No space left on device"),
    ]
    with pytest.raises(StorageError, match="No space left"):
        persistently(failing(left), **trying)
    assert len(left) == 1
    with pytest.raises(FileNotFoundError):
        persistently(failing([FileNotFoundError()]), **trying)
