"""The files of a checkpoint: their names, listing, trimming, deletion, the manifest. Reads no tensor.

A checkpoint is a folder named by its position: its edit count, or the optimiser steps of a fine-tuning.
`weights.safetensors`, `raw.safetensors`, `attached.safetensors` and `tuned.safetensors` (if there are any) and
`state.safetensors` hold tensors; `manifest.json` is written last, and a folder without a valid one is not a checkpoint.
A new file of a checkpoint is added to `TENSOR_FILES`; trimming, deletion and `sphere gc` then cover it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage

__all__ = [
    "ATTACHED",
    "MANIFEST",
    "RAW",
    "STATE",
    "TENSOR_FILES",
    "TUNED",
    "WEIGHTS",
    "CheckpointFile",
    "Manifest",
    "checkpoint_file",
    "checkpoint_folder",
    "checkpoints_in",
    "delete_checkpoint",
    "read_manifest",
    "trim_checkpoint",
]

WEIGHTS, RAW, STATE, MANIFEST = "weights.safetensors", "raw.safetensors", "state.safetensors", "manifest.json"
ATTACHED, TUNED = "attached.safetensors", "tuned.safetensors"
# The large files: all but the manifest.
TENSOR_FILES = (WEIGHTS, RAW, ATTACHED, TUNED, STATE)
_FORMAT = 1


@dataclass(frozen=True)
class CheckpointFile:
    """One file of a checkpoint: the checkpoint's position, and the file's name."""

    position: int
    name: str

    @classmethod
    def of(cls, path: str) -> "CheckpointFile | None":
        """Parse a path below the folder of checkpoints; None if it is not a file of a checkpoint."""
        folder, _, name = path.partition("/")
        return cls(int(folder), name) if folder.isdecimal() and name and "/" not in name else None


@dataclass(frozen=True)
class Manifest:
    """What a manifest says; `files` are the sha256 of each tensor file, `scalars` those of the editor's state.

    `attached` holds the `kind` of the attachment and its `scalars`, if the model has one; `steps` are the optimiser
    steps of a fine-tuning since `edits` edits.
    """

    trajectory_id: str
    edits: int
    collapsed: bool
    contexts: tuple[tuple[str, ...], ...]
    scalars: Mapping[str, float | int | str | bool]
    files: Mapping[str, str]
    attached: Mapping[str, Any] | None = None
    steps: int | None = None

    def encode(self) -> bytes:
        """Return the bytes of `manifest.json`."""
        record = {"format": _FORMAT, **asdict(self)}
        for name in ("attached", "steps"):
            if record[name] is None:
                del record[name]
        return json.dumps(record, indent=1, sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """Read the bytes of `manifest.json`; raises ValueError if they are not a manifest's."""
        record = json.loads(data)
        try:
            manifest = cls(
                trajectory_id=str(record["trajectory_id"]),
                edits=int(record["edits"]),
                collapsed=bool(record["collapsed"]),
                contexts=tuple(tuple(group) for group in record["contexts"]),
                scalars=dict(record["scalars"]),
                files={str(name): str(digest) for name, digest in record["files"].items()},
                attached=_attached(record.get("attached")),
                steps=int(record["steps"]) if "steps" in record else None,
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("not a manifest") from error
        if not {WEIGHTS, STATE} <= manifest.files.keys():
            raise ValueError("a manifest without weights or state")
        if (manifest.attached is None) != (ATTACHED not in manifest.files):
            raise ValueError("a manifest with half an attachment")
        return manifest


def _attached(value: Any) -> Mapping[str, Any] | None:
    return None if value is None else {"kind": str(value["kind"]), "scalars": dict(value["scalars"])}


def checkpoint_folder(position: int) -> str:
    """Return the folder name of the checkpoint at a position: its edits, or the steps of a fine-tuning."""
    return f"{position:06d}"


def checkpoint_file(position: int, name: str) -> str:
    """Return the path of one of a checkpoint's files, below the folder of checkpoints."""
    return f"{checkpoint_folder(position)}/{name}"


def checkpoints_in(storage: Storage) -> list[int]:
    """Return the positions of all published checkpoints below `storage`, in order."""
    found = (CheckpointFile.of(path) for path in storage.list())
    return sorted(file.position for file in found if file is not None and file.name == MANIFEST)


def trim_checkpoint(storage: Storage, position: int) -> None:
    """Remove the tensor files of a checkpoint and keep its manifest; a second call does nothing.

    The manifest still shows that the checkpoint was made; it can be neither read nor resumed from.
    """
    for name in TENSOR_FILES:
        storage.delete(checkpoint_file(position, name))


def delete_checkpoint(storage: Storage, position: int) -> None:
    """Remove a checkpoint, manifest first; a second call does nothing."""
    # Without a manifest the other files do not count as a checkpoint, so a kill in between is harmless.
    storage.delete(checkpoint_file(position, MANIFEST))
    storage.delete(checkpoint_folder(position))


def read_manifest(storage: Storage, position: int) -> Manifest:
    """Read the manifest of one checkpoint; raises FileNotFoundError if it is missing, InputError if it is damaged."""
    data = storage.read_bytes(checkpoint_file(position, MANIFEST))
    try:
        return Manifest.decode(data)
    except ValueError as error:
        where = f"{storage.uri}/{checkpoint_folder(position)}"
        raise InputError("the manifest is not a checkpoint's", where=where) from error
