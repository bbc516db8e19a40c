"""Files under one root, on any file system fsspec knows, published atomically."""

import contextlib
import os
import uuid
from pathlib import Path, PurePosixPath

import fsspec

__all__ = ["Storage"]


class Storage:
    """A folder of immutable or atomically replaced files, addressed by relative paths.

    `uri` is a local path or any URL fsspec knows (`s3://bucket/prefix`, `gs://...`, `memory://...`).
    On a local file system a file appears by write, fsync and rename; an object store publishes a
    whole object by one PUT. A reader therefore never sees half a file. Names that begin with a dot
    are scratch and are never listed.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri).rstrip("/")
        filesystem, root = fsspec.core.url_to_fs(self.uri)
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
        self._files.invalidate_cache()
        return bool(self._files.exists(self._full(path)))

    def read_bytes(self, path: str) -> bytes:
        """Return a file's bytes; raises FileNotFoundError where there is none."""
        return bytes(self._files.cat_file(self._full(path)))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Publish a file whole, replacing what was there."""
        if not self.is_local:
            self._files.pipe_file(self._full(path), data)
            return
        target = Path(self._full(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with scratch.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            scratch.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                scratch.unlink()

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Create a file only if nobody else has; return False where it already exists.

        Local file systems (and NFS from version 3 on) do this atomically. Object stores without a
        conditional PUT get check-then-write; callers must stay correct when two of them win.
        """
        if self.is_local:
            target = Path(self._full(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
            scratch.write_bytes(data)
            try:
                os.link(scratch, target)
            except FileExistsError:
                return False
            finally:
                scratch.unlink()
            return True
        if self.exists(path):
            return False
        self.write_bytes(path, data)
        return True

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted relative paths of all files below `prefix`, scratch files left out."""
        self._files.invalidate_cache()
        full = self._full(prefix) if prefix else self._root
        if not self._files.exists(full):
            return []
        found = (str(PurePosixPath(name).relative_to(self._root)) for name in self._files.find(full))
        return sorted(name for name in found if not any(part.startswith(".") for part in name.split("/")))

    def delete(self, path: str) -> None:
        """Remove a file or a folder with all in it; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self._full(path), recursive=True)

    def local_path(self, path: str = "") -> Path | None:
        """Return the path on this machine's file system, or None on an object store."""
        return Path(self._full(path) if path else self._root) if self.is_local else None

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"
