"""Files of sweep directories as local paths, each fetched and checked once for as long as a block lasts."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from sphere_core.foundation.parquet import require_whole, stored_schema
from sphere_core.foundation.storage import Storage
from workflows.store.row_reader import warn_of_damage

__all__ = ["LocalFiles"]


class LocalFiles:
    """Files of any storage as local paths until a stack is closed; copies of an object store's are removed with it.

    A file is read whole once, to hold it against its digest, however many connections name it.
    """

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        # By storage and name: the local path, or None for a damaged file.
        self._known: dict[tuple[str, str], str | None] = {}
        # The stored schema of each sound file, by its local path.
        self.schemas: dict[str, bytes | None] = {}

    def paths(self, storage: Storage, names: Sequence[str]) -> list[str]:
        """Return local paths of files; a damaged one is left out, with a warning that names it, once."""
        found = [self._path(storage, name) for name in names]
        return [path for path in found if path is not None]

    def _path(self, storage: Storage, name: str) -> str | None:
        key = (storage.uri, name)
        if key not in self._known:
            path = str(self._opened.enter_context(storage.as_file(name)))
            self._known[key] = path if self._is_sound(path, f"{storage.uri}/{name}") else None
        return self._known[key]

    def _is_sound(self, path: str, name: str) -> bool:
        data = Path(path).read_bytes()
        try:
            require_whole(data)
        except pa.ArrowInvalid as error:
            warn_of_damage(name, error)
            return False
        self.schemas[path] = stored_schema(data)
        return True
