"""Checkpoints: edited sites, editor state, position and templates, published whole or not at all.

A checkpoint is a folder named by its edit count: `weights.safetensors` (each edited weight under the model's
own parameter name and in stored orientation, fp32), `state.safetensors` (what the editor and its regularizers
carry), and `manifest.json`, written last, with the digest of both. A folder without a valid manifest
is not a checkpoint. The bytes depend on the trajectory alone, never on the attempt or the machine. There is no state
of a random generator among them: numbers are drawn before the first edit only (the order of the stream, the templates),
from the trajectory's seed, and what came of that is kept.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage

__all__ = [
    "Checkpoint",
    "EditorState",
    "checkpoint_files",
    "checkpoint_folder",
    "checkpoints_in",
    "delete_checkpoint",
    "latest_checkpoint",
    "read_checkpoint",
    "read_manifest",
    "trim_checkpoint",
    "write_checkpoint",
]

FORMAT = 1
_WEIGHTS, _RAW, _STATE, _MANIFEST = "weights.safetensors", "raw.safetensors", "state.safetensors", "manifest.json"
# Without these there is nothing to resume from or to score.
_MANIFEST_KEYS = {"trajectory_id", "collapsed", "contexts", "scalars", "files"}


@dataclass(frozen=True)
class EditorState:
    """What an editor carries from batch to batch: named tensors and scalars, nothing else."""

    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    scalars: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    def part(self, owner: str) -> "EditorState":
        """Return what is kept under `owner`, by the names its owner gave."""
        prefix = f"{owner}/"
        return EditorState(
            {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)},
            {name.removeprefix(prefix): value for name, value in self.scalars.items() if name.startswith(prefix)},
        )

    def with_part(self, owner: str, part: "EditorState") -> "EditorState":
        """Return this state with all that `owner` keeps replaced."""
        prefix = f"{owner}/"
        tensors = {name: value for name, value in self.tensors.items() if not name.startswith(prefix)}
        scalars = {name: value for name, value in self.scalars.items() if not name.startswith(prefix)}
        tensors |= {prefix + name: value for name, value in part.tensors.items()}
        scalars |= {prefix + name: value for name, value in part.scalars.items()}
        return EditorState(tensors, scalars)


@dataclass(frozen=True)
class Checkpoint:
    """A trajectory after `edits` edits.

    `weights` are fp32, by parameter name, in stored orientation: what is scored. Where a read-out regularizer makes
    them differ from what editing goes on with, `raw` holds the latter. `contexts` are the template groups in use.
    `collapsed` tells that an edited weight is no longer finite: a result, not a failure.
    """

    trajectory_id: str
    edits: int
    weights: Mapping[str, torch.Tensor]
    state: EditorState
    contexts: tuple[tuple[str, ...], ...]
    collapsed: bool
    raw: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def live(self) -> Mapping[str, torch.Tensor]:
        """The weights that editing goes on with."""
        return self.raw or self.weights


def checkpoint_folder(edits: int) -> str:
    """Return the folder name of the checkpoint after `edits` edits."""
    return f"{edits:06d}"


def write_checkpoint(checkpoint: Checkpoint, storage: Storage) -> dict[str, object]:
    """Publish a checkpoint below `storage` and return its manifest; the manifest is written last."""
    folder = checkpoint_folder(checkpoint.edits)
    files = {_WEIGHTS: _encode(checkpoint.weights), _STATE: _encode(checkpoint.state.tensors)}
    if checkpoint.raw:
        files[_RAW] = _encode({f"raw/{name}": weight for name, weight in checkpoint.raw.items()})
    manifest: dict[str, object] = {
        "format": FORMAT,
        "trajectory_id": checkpoint.trajectory_id,
        "edits": checkpoint.edits,
        "collapsed": checkpoint.collapsed,
        "contexts": [list(group) for group in checkpoint.contexts],
        "scalars": dict(checkpoint.state.scalars),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    for name, data in files.items():
        storage.write_bytes(f"{folder}/{name}", data)
    text = json.dumps(manifest, indent=1, sort_keys=True)
    storage.write_bytes(f"{folder}/{_MANIFEST}", text.encode())
    return manifest


def checkpoint_files() -> tuple[str, ...]:
    """Return the names of the large files of a checkpoint: all but the manifest."""
    return (_WEIGHTS, _RAW, _STATE)


def trim_checkpoint(storage: Storage, edits: int) -> None:
    """Remove all of a checkpoint but its manifest: it was made, and can be neither read nor resumed from."""
    for name in checkpoint_files():
        storage.delete(f"{checkpoint_folder(edits)}/{name}")


def delete_checkpoint(storage: Storage, edits: int) -> None:
    """Remove a checkpoint; nothing happens where there is none."""
    # The manifest first: without it the rest is no checkpoint.
    storage.delete(f"{checkpoint_folder(edits)}/{_MANIFEST}")
    storage.delete(checkpoint_folder(edits))


def read_manifest(storage: Storage, edits: int) -> dict[str, Any]:
    """Return the manifest of one checkpoint; raises FileNotFoundError where there is none."""
    data = storage.read_bytes(f"{checkpoint_folder(edits)}/{_MANIFEST}")
    try:
        manifest = json.loads(data)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not manifest.keys() >= _MANIFEST_KEYS:
        raise InputError("the manifest is not a checkpoint's", where=f"{storage.uri}/{checkpoint_folder(edits)}")
    return manifest


def read_checkpoint(storage: Storage, edits: int) -> Checkpoint:
    """Read one checkpoint and check both digests; raises InputError where a file is not what the manifest says."""
    manifest = read_manifest(storage, edits)
    folder = checkpoint_folder(edits)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, expected in dict(manifest["files"]).items():
        data = storage.read_bytes(f"{folder}/{name}")
        if hashlib.sha256(data).hexdigest() != expected:
            raise InputError(
                f"{name} does not match the digest in its manifest",
                where=f"{storage.uri}/{folder}",
                remedy="delete this checkpoint's folder and run again: the trajectory goes on from the one before",
            )
        parts[name] = load(data)
    return Checkpoint(
        trajectory_id=str(manifest["trajectory_id"]),
        edits=edits,
        weights=parts[_WEIGHTS],
        state=EditorState(parts[_STATE], dict(manifest["scalars"])),
        contexts=tuple(tuple(group) for group in manifest["contexts"]),
        collapsed=bool(manifest["collapsed"]),
        raw={name.removeprefix("raw/"): weight for name, weight in parts.get(_RAW, {}).items()},
    )


def checkpoints_in(storage: Storage) -> list[int]:
    """Return the edit counts of all published checkpoints below `storage`, in order."""
    found = []
    for path in storage.list():
        folder, _, name = path.partition("/")
        if name == _MANIFEST and folder.isdigit():
            found.append(int(folder))
    return sorted(found)


def latest_checkpoint(storage: Storage, *, at_most: int | None = None) -> Checkpoint | None:
    """Return the furthest checkpoint (after at most so many edits) whose files match their digests, or None.

    A damaged checkpoint is passed over for the one before it; the trajectory redoes that interval and
    publishes it again.
    """
    for edits in reversed(checkpoints_in(storage)):
        if at_most is not None and edits > at_most:
            continue
        try:
            return read_checkpoint(storage, edits)
        except (InputError, FileNotFoundError):
            continue
    return None


def _encode(tensors: Mapping[str, torch.Tensor]) -> bytes:
    # Two owners may keep one tensor (the keys of a batch, say); a file holds it once for each.
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())})
