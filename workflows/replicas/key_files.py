"""Store the key of every edit next to a trajectory's checkpoints, for `keep_keys: true`."""

from collections.abc import Sequence

from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.edit_keys import EditKeys, read_edit_keys
from sphere_core.locate.templates import Contexts
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest
from workflows.store.layout import keys_folder, keys_path, keys_position

__all__ = ["KeyKeeper"]


class KeyKeeper:
    """Collects the keys of each batch and publishes them with each checkpoint.

    The file at k holds the edits between the previous wanted checkpoint and k. It is written before the checkpoint, so
    that an attempt that resumes at k finds it. An attempt that resumes at a checkpoint of a stop reads that file again,
    continues it, and later removes it. The files of an interrupted trajectory therefore equal, byte for byte, those of
    an uninterrupted one.
    """

    def __init__(
        self, storage: Storage, trajectory_id: str, wanted: Sequence[int], places: Sequence[Place], resumed_at: int
    ) -> None:
        self._storage = storage
        self._trajectory_id = trajectory_id
        self._wanted = frozenset(wanted)
        self._places = tuple(places)
        self._pending = EditKeys.empty()
        path = keys_path(trajectory_id, resumed_at)
        if resumed_at and resumed_at not in self._wanted and storage.exists(path):
            self._pending = read_edit_keys(storage.read_bytes(path), where=f"{storage.uri}/{path}")

    def note(self, model: EditableModel, done: int, batch: Sequence[EditRequest], contexts: Contexts) -> None:
        """Add the keys of a batch that is about to be edited, after `done` edits."""
        self._pending.note(model, self._places, done + 1, batch, contexts)

    def packed(self, edits: int) -> bytes:
        """Return the file of the keys since the last wanted checkpoint; after a wanted one the next file begins."""
        data = self._pending.encode()
        if edits in self._wanted:
            self._pending = EditKeys.empty()
        return data

    def publish(self, edits: int, data: bytes) -> None:
        """Write the file at an edit count, replacing an earlier one."""
        self._storage.write_bytes(keys_path(self._trajectory_id, edits), data)

    def drop_stops(self, edits: int) -> None:
        """Remove the files of earlier stops once the checkpoint at `edits` is published: nothing resumes there any
        more."""
        for path in self._storage.list(keys_folder(self._trajectory_id)):
            earlier = keys_position(path)
            if earlier < edits and earlier not in self._wanted:
                self._storage.delete(path)
