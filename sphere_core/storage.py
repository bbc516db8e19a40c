"""Files under one root, on any file system fsspec knows, published atomically."""

import contextlib
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import fsspec

from sphere_core.errors import InputError

__all__ = ["Storage"]

_CREDENTIALS = re.compile(r"(?<=://)[^/:@]*:[^@]*@")


class Storage:
    """A folder of immutable or atomically replaced files, addressed by relative paths.

    `uri` is a local path or any URL fsspec knows (`s3://bucket/prefix`, `gs://...`, `memory://...`).
    On a local file system a file appears by write, fsync and rename; an object store publishes a
    whole object by one PUT, or by the last request of a multipart upload. A reader therefore never sees half a
    file. Names that begin with a dot are scratch and are never listed. Credentials come from the
    environment (or the machine's role), never from the URL, which is printed and written into files.

    Raises InputError for a URL that no installed file system serves, or that holds credentials.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri).rstrip("/")
        if _CREDENTIALS.search(self.uri):
            raise InputError(
                "the URL of the storage holds credentials, which would end up in logs and files",
                where=_CREDENTIALS.sub("", self.uri),
                remedy="leave them out of the URL and set them in the environment (AWS_ACCESS_KEY_ID and so on)",
            )
        filesystem, root = _file_system(self.uri)
        self._files = filesystem
        self._root = root.rstrip("/")
        protocols = filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,)
        self.is_local = "file" in protocols or "local" in protocols

    def __reduce__(self) -> tuple[object, ...]:
        return (Storage, (self.uri,))

    def child(self, path: str) -> "Storage":
        """Return the storage rooted at a folder below this one."""
        return Storage(f"{self.uri}/{path}")

    def exists(self, path: str) -> bool:
        """Tell whether a file or folder is there now."""
        return bool(self._files.exists(self._full(path)))

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes; raises FileNotFoundError where there is none."""
        return bytes(self._files.cat_file(self._full(path)))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Publish a file whole, replacing what was there."""
        if not self.is_local:
            self._files.pipe_file(self._full(path), data)
            return
        self.write_file(path, lambda scratch: scratch.write_bytes(data))

    def write_file(self, path: str, write: Callable[[Path], object]) -> None:
        """Publish a file that `write` makes at a local path it is given, whole; for what is too large for one bytes."""
        if not self.is_local:
            with tempfile.TemporaryDirectory() as folder:
                scratch = Path(folder) / PurePosixPath(path).name
                write(scratch)
                self._files.put_file(str(scratch), self._full(path))
            return
        target = Path(self._full(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._scratch(target)
        try:
            scratch.touch()
            mode = scratch.stat().st_mode
            write(scratch)
            # Some writers make files that only their owner can read; others work below the same root.
            scratch.chmod(mode)
            with scratch.open("rb") as handle:
                os.fsync(handle.fileno())
            scratch.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                scratch.unlink()

    @contextlib.contextmanager
    def as_file(self, path: str) -> Iterator[Path]:
        """Give a file of this machine with these bytes: the file itself, or a copy that goes when the block ends."""
        if self.is_local:
            yield Path(self._full(path))
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / PurePosixPath(path).name
            self._files.get_file(self._full(path), str(copy))
            yield copy

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Create a file only if nobody else has; return False where it already exists.

        Of several callers at a time exactly one wins: by a hard link on local file systems (and NFS from version 3
        on), by a conditional PUT (`If-None-Match: *`) on S3 and stores that speak its protocol. A file system
        of fsspec that ignores `mode="create"` gets check-then-write; callers must stay correct when two win there.
        """
        if not self.is_local:
            try:
                self._files.pipe_file(self._full(path), data, mode="create")
            except FileExistsError:
                return False
            return True
        target = Path(self._full(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._scratch(target)
        scratch.write_bytes(data)
        try:
            os.link(scratch, target)
        except FileExistsError:
            return False
        finally:
            scratch.unlink()
        return True

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted relative paths of all files below `prefix`, scratch files left out."""
        full = self._full(prefix) if prefix else self._root
        if self.is_local:
            # Names alone: the file system layer would ask for every file's size and times.
            found: Iterable[str] = _files_below(full)
        else:
            try:
                found = self._files.find(full)
            except FileNotFoundError:
                return []
        names = (name[len(self._root) :].lstrip("/") for name in found)
        return sorted(name for name in names if not name.startswith(".") and "/." not in name)

    def delete(self, path: str) -> None:
        """Remove a file or a folder with all in it; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self._full(path), recursive=True)

    def local_path(self, path: str = "") -> Path | None:
        """Return the path on this machine's file system, or None on an object store."""
        return Path(self._full(path) if path else self._root) if self.is_local else None

    def require_reachable(self) -> None:
        """Raise InputError where the storage does not answer: no such host, no credentials, no right to read."""
        with self._explained("read"):
            self.exists("plan.json")

    def require_writable(self) -> None:
        """Raise InputError where nothing can be written: no such bucket, no right to write, no space left."""
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        with self._explained("written"):
            self.write_bytes(probe, b"")
            self.delete(probe)

    @contextlib.contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every file system has exceptions of its own, without a common base
            reason = str(error) or "no reason given"
            raise InputError(
                f"the storage cannot be {verb}: {type(error).__name__}: {reason}",
                where=self.uri,
                remedy="check the path or bucket, and the credentials and endpoint in the environment",
            ) from error

    def _scratch(self, target: Path) -> Path:
        return target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"


def _file_system(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        # Others write below the same root; a cached listing would hide what they did.
        filesystem, root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"no file system for this storage: {error}",
            where=uri,
            remedy="s3:// needs the extra: pip install -c constraints.txt -e '.[s3]'; gs:// needs gcsfs, az:// adlfs",
        ) from error
    return filesystem, str(root)


def _files_below(folder: str) -> Iterator[str]:
    """Yield the paths of all files below a local folder; nothing where there is none, or once it is gone."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files_below(entry.path)
        else:
            yield entry.path
