"""Keeping the key of every edit beside a trajectory's checkpoints, for `keep_keys: true`."""

from collections.abc import Sequence

from sphere_core.checkpoint_files import checkpoint_folder
from sphere_core.foundation.storage import Storage
from sphere_core.locate.edit_keys import EditKeys, read_edit_keys
from sphere_core.locate.templates import Contexts
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest
from workflows.store.layout import keys_folder

__all__ = ["KeyKeeper"]

_SUFFIX = ".safetensors"


class KeyKeeper:
    """Notes the keys of each batch and publishes them with each checkpoint.

    The file at k holds the edits between the wanted checkpoint before k and k. It is written before the checkpoint, so
    that whoever resumes at k finds it; at a checkpoint that only a stop asked for, it is taken up again and goes.
    The files of an interrupted trajectory are therefore, byte for byte, those of one that was never touched.
    """

    def __init__(
        self, storage: Storage, trajectory_id: str, wanted: Sequence[int], layers: Sequence[int], resumed_at: int
    ) -> None:
        self._storage = storage.child(keys_folder(trajectory_id))
        self._wanted = frozenset(wanted)
        self._layers = tuple(layers)
        self._pending = EditKeys.empty()
        name = _file(resumed_at)
        if resumed_at and resumed_at not in self._wanted and self._storage.exists(name):
            self._pending = read_edit_keys(self._storage.read_bytes(name), where=f"{self._storage.uri}/{name}")

    def note(self, model: EditableModel, done: int, batch: Sequence[EditRequest], contexts: Contexts) -> None:
        """Take the keys of a batch that is about to be edited, `done` edits being behind it."""
        self._pending.note(model, self._layers, done + 1, batch, contexts)

    def publish(self, edits: int) -> None:
        """Write the keys since the last wanted checkpoint."""
        self._storage.write_bytes(_file(edits), self._pending.encode())
        if edits in self._wanted:
            self._pending = EditKeys.empty()

    def drop_stops(self, edits: int) -> None:
        """Remove what stops before a checkpoint had written, once it stands: nobody resumes there any more."""
        for path in self._storage.list():
            earlier = int(path.removesuffix(_SUFFIX))
            if earlier < edits and earlier not in self._wanted:
                self._storage.delete(path)


def _file(edits: int) -> str:
    return f"{checkpoint_folder(edits)}{_SUFFIX}"
