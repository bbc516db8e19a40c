"""Files under one root, on any file system fsspec knows, published atomically."""

import builtins
import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage_faults import PATIENCE, StorageError, persistently
from sphere_core.foundation.storage_url import file_system, refuse_below_file, refuse_credentials

__all__ = ["Storage"]

Result = TypeVar("Result")


class Storage:
    """A folder of immutable or atomically replaced files, addressed by relative paths.

    `uri` is a local path or any URL fsspec knows (`s3://bucket/prefix`, `gs://...`, `memory://...`).
    On a local file system a file appears by write, fsync and rename; an object store publishes a
    whole object by one PUT, or by the last request of a multipart upload. A reader therefore never sees half a
    file. Names that begin with a dot are scratch and are never listed. Credentials come from the
    environment (or the machine's role), never from the URL, which is printed and written into files.

    Failing calls are retried for a few seconds (`patience`: the pauses between tries); then, or at once if the disk
    is full, every method raises StorageError.

    Raises InputError for a URL that no installed file system serves, or that holds credentials, and for a folder that
    is a file or lies below one.
    """

    def __init__(self, uri: str | Path, *, patience: Sequence[float] = PATIENCE) -> None:
        self._patience = tuple(patience)
        self.uri = str(uri).rstrip("/")
        refuse_credentials(self.uri)
        filesystem, root = file_system(self.uri)
        self._files = filesystem
        self._root = root.rstrip("/")
        protocols = filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,)
        self.is_local = "file" in protocols or "local" in protocols
        if self.is_local:
            refuse_below_file(Path(self._root or "/"))

    def __reduce__(self) -> tuple[object, ...]:
        return (Storage, (self.uri,))

    def child(self, path: str) -> "Storage":
        """Return the storage rooted at a folder below this one."""
        return Storage(f"{self.uri}/{path}", patience=self._patience)

    def exists(self, path: str) -> bool:
        """Return whether a file or folder exists now."""
        return self._try(path, lambda full: bool(self._files.exists(full)))

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes; raises FileNotFoundError if it does not exist."""
        return self._try(path, lambda full: bytes(self._files.cat_file(full)))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Publish a file whole, replacing what was there."""
        if self.is_local:
            self._try(path, lambda full: self._publish(Path(full), lambda scratch: scratch.write_bytes(data)))
        else:
            self._try(path, lambda full: self._files.pipe_file(full, data))

    def write_file(
        self,
        path: str,
        write: Callable[[Path], object],
        *,
        repeatable: bool = False,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """Publish a file that `write` creates at a given local path; for content too large for one bytes object.

        A failing `write` is retried only if it is `repeatable`: it may take minutes, and its errors may not be the
        storage's. `guard` is called when all is written, right before it is published; what it raises prevents that.
        """
        where = f"{self.uri}/{path}"
        if self.is_local:
            patience = self._patience if repeatable else ()
            target = Path(self._full(path))
            persistently(lambda: self._publish(target, write, guard), where=where, faults=OSError, patience=patience)
            return
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder) / PurePosixPath(path).name
            persistently(lambda: write(scratch), where=str(scratch), faults=OSError, patience=())
            guard()
            self._try(path, lambda full: self._files.put_file(str(scratch), full))

    def _publish(self, target: Path, write: Callable[[Path], object], guard: Callable[[], None] = lambda: None) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # /proc and its kin
            raise InputError(
                "no folder can be made there", where=str(target.parent), remedy="give a folder that can be written"
            ) from error
        scratch = self._scratch(target)
        try:
            scratch.touch()
            mode = scratch.stat().st_mode
            write(scratch)
            # Some writers make files that only their owner can read; others work below the same root.
            scratch.chmod(mode)
            with scratch.open("rb") as handle:
                os.fsync(handle.fileno())
            # After what takes time: a process that was stopped meanwhile may have lost its right to publish.
            guard()
            scratch.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                scratch.unlink()

    @contextlib.contextmanager
    def as_file(self, path: str) -> Iterator[Path]:
        """Yield a local file with these bytes: the file itself, or a copy that is removed when the block ends."""
        if self.is_local:
            yield Path(self._full(path))
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / PurePosixPath(path).name
            self._try(path, lambda full: self._files.get_file(full, str(copy)))
            yield copy

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Create a file only if it does not exist; return False if it does.

        Of several callers at a time exactly one wins: by a hard link on local file systems (and NFS from version 3
        on), by a conditional PUT on S3 and stores that speak its protocol and on Azure (`If-None-Match: *`), and by
        one on Google Cloud Storage (`ifGenerationMatch=0`). A file system
        of fsspec that ignores `mode="create"` gets check-then-write; callers must stay correct when two win there.
        """
        try:
            if self.is_local:
                self._try(path, lambda full: self._link(Path(full), data))
            else:
                self._try(path, lambda full: self._files.pipe_file(full, data, mode="create"))
        except FileExistsError:
            return False
        return True

    def _link(self, target: Path, data: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._scratch(target)
        try:
            scratch.write_bytes(data)
            os.link(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted relative paths of all files below `prefix`, scratch files left out."""
        full = self._full(prefix) if prefix else self._root
        try:
            found = self._try(prefix, lambda _: self._find(full))
        except FileNotFoundError:
            return []
        names = (name[len(self._root) :].lstrip("/") for name in found)
        return sorted(name for name in names if not name.startswith(".") and "/." not in name)

    def _find(self, full: str) -> Iterable[str]:
        # Names only: the file system layer would read size and times of every file of a local folder.
        return list(_files_below(full)) if self.is_local else self._files.find(full)

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with its content; a second call does nothing."""
        with contextlib.suppress(FileNotFoundError):
            self._try(path, lambda full: self._files.rm(full, recursive=True))

    def size(self, path: str) -> int:
        """Return a file's size in bytes; raises FileNotFoundError if it does not exist."""
        return self._try(path, lambda full: int(self._files.size(full)))

    def scratch_files(self) -> builtins.list[tuple[str, int, float]]:
        """Return what writers left unpublished on a local file system: path, bytes, seconds since it was written."""
        if not self.is_local:
            return []
        found = []
        for full in _files_below(self._root):
            if full.endswith(".tmp") and "/." in full[len(self._root) :]:
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(full)
                    found.append((full[len(self._root) + 1 :], status.st_size, time.time() - status.st_mtime))
        return sorted(found)

    def local_path(self, path: str = "") -> Path | None:
        """Return the path on this machine's file system, or None on an object store."""
        return Path(self._full(path) if path else self._root) if self.is_local else None

    def require_reachable(self) -> None:
        """Raise InputError if the storage does not answer: no such host, no credentials, no right to read."""
        with self._explained("read"):
            self._files.exists(self._full(".probe"))

    def require_writable(self) -> None:
        """Raise InputError if nothing can be written: no such bucket, no right to write, no space left."""
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        at_once = Storage(self.uri, patience=())
        with self._explained("written"):
            at_once.write_bytes(probe, b"")
            at_once.delete(probe)

    @contextlib.contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as fault:  # every file system has exceptions of its own, without a common base
            error = fault.__cause__ or fault if isinstance(fault, StorageError) else fault
            reason = str(error) or "no reason given"
            raise InputError(
                f"the storage cannot be {verb}: {type(error).__name__}: {reason}",
                where=self.uri,
                remedy="check the path or bucket, and the credentials and endpoint in the environment",
            ) from fault

    def _scratch(self, target: Path) -> Path:
        return target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")

    def _try(self, path: str, call: Callable[[str], Result]) -> Result:
        """Call with the full path, with retries."""
        # Remote file systems have exceptions of their own, without a common base.
        faults: type[Exception] = OSError if self.is_local else Exception
        full = self._full(path)
        return persistently(lambda: call(full), where=f"{self.uri}/{path}", faults=faults, patience=self._patience)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"


def _files_below(folder: str) -> Iterator[str]:
    """Yield the paths of all files below a local folder; none if the folder does not exist or is removed meanwhile."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files_below(entry.path)
        else:
            yield entry.path
