"""Checkpoints: edited sites, editor state, position and templates, published whole or not at all.

A checkpoint is a folder named by its position: its edit count, or the optimiser steps of a fine-tuning.
`weights.safetensors` (each edited weight under the model's own parameter name and in stored orientation, fp32),
`attached.safetensors` (what is installed beside the weights, where an editor does), `tuned.safetensors` (parameters
that are no sites and that a fine-tuning has changed), `state.safetensors` (the state of the editor and its
regularizers, or of the optimiser), and `manifest.json`, written last, with the digest of each. A folder without a valid
manifest is not a checkpoint. The bytes depend on the trajectory alone, never on the attempt or the machine. They hold
no state of a random generator: random numbers are drawn only before the first edit (order of the stream, templates) or
step, from the trajectory's seed, and the results are stored; the order of the texts of an epoch is drawn again.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from sphere_core.checkpoint_files import (
    ATTACHED,
    MANIFEST,
    RAW,
    STATE,
    TUNED,
    WEIGHTS,
    Manifest,
    checkpoint_file,
    checkpoint_folder,
    checkpoints_in,
    read_manifest,
)
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models.attachments import Attachment
from sphere_core.numerics.tensor_file import read_tensors, write_tensors

__all__ = [
    "Checkpoint",
    "EditorState",
    "Installed",
    "latest_checkpoint",
    "on_host",
    "read_checkpoint",
    "read_installed",
    "write_checkpoint",
]


@dataclass(frozen=True)
class EditorState:
    """What an editor carries from batch to batch: named tensors and scalars, nothing else.

    A tensor whose name ends in `.lower` is square and lower triangular; files hold its triangle.
    """

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
class Installed:
    """What scoring installs: edited weights, an attachment or None, tuned parameters; `scalars` are the editor's, and
    `state` its tensors where they were requested."""

    weights: Mapping[str, torch.Tensor]
    attachment: Attachment | None
    scalars: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    tuned: Mapping[str, torch.Tensor] = field(default_factory=dict)
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A trajectory after `edits` edits.

    `weights` are fp32, by parameter name, in stored orientation: these are scored. If a read-out regularizer makes
    them differ from the weights that are edited further, `raw` holds the latter. `contexts` are the template groups in
    use. `collapsed`: an edited weight is no longer finite; a result, not a failure. `attachment` is what the editor has
    installed beside the weights. Of a fine-tuning: `tuned` are the parameters that are no sites, `steps` the optimiser
    steps since `edits` edits.
    """

    trajectory_id: str
    edits: int
    weights: Mapping[str, torch.Tensor]
    state: EditorState
    contexts: tuple[tuple[str, ...], ...]
    collapsed: bool
    raw: Mapping[str, torch.Tensor] = field(default_factory=dict)
    attachment: Attachment | None = None
    tuned: Mapping[str, torch.Tensor] = field(default_factory=dict)
    steps: int | None = None

    @property
    def position(self) -> int:
        """Its place in its trajectory: the edit count, or the optimiser steps of a fine-tuning."""
        return self.edits if self.steps is None else self.steps

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        attached = self.attachment.tensors if self.attachment else {}
        parts = (self.weights, self.state.tensors, self.raw, self.tuned, attached)
        return sum(tensor.numel() * tensor.element_size() for part in parts for tensor in part.values())

    @property
    def live(self) -> Mapping[str, torch.Tensor]:
        """The weights from which editing continues."""
        return self.raw or self.weights


def write_checkpoint(checkpoint: Checkpoint, storage: Storage, *, guard: Callable[[], None] = lambda: None) -> None:
    """Publish a checkpoint below `storage`: tensor files first, then the manifest with their digests.

    A second call with the same checkpoint writes the same bytes. `guard` is called when a file is written and before it
    is published; what it raises leaves that file and all later ones out. Raises StorageError if storage fails.
    """
    files = {WEIGHTS: checkpoint.weights, STATE: checkpoint.state.tensors}
    if checkpoint.raw:
        files[RAW] = {f"raw/{name}": weight for name, weight in checkpoint.raw.items()}
    attachment = checkpoint.attachment
    if attachment is not None:
        files[ATTACHED] = attachment.tensors
    if checkpoint.tuned:
        files[TUNED] = checkpoint.tuned
    digests = {name: _write(storage, checkpoint_file(checkpoint.position, name), files[name], guard) for name in files}
    manifest = Manifest(
        trajectory_id=checkpoint.trajectory_id,
        edits=checkpoint.edits,
        collapsed=checkpoint.collapsed,
        contexts=checkpoint.contexts,
        scalars=dict(checkpoint.state.scalars),
        files=digests,
        attached=None if attachment is None else {"kind": attachment.kind, "scalars": dict(attachment.scalars)},
        steps=checkpoint.steps,
    )
    guard()
    storage.write_bytes(checkpoint_file(checkpoint.position, MANIFEST), manifest.encode())


def on_host(checkpoint: Checkpoint) -> tuple[Checkpoint, Callable[[], None]]:
    """Return a checkpoint with its tensors on the host, and a call that waits until they have arrived.

    From a CUDA device they are copied into pinned buffers in the order of its stream, which nothing waits for: later
    batches may replace the originals. From others the copy is waited for here. Tensors of the host are not copied.
    """
    copied: set[torch.device] = set()

    def copy(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {}
        for name, tensor in tensors.items():
            if tensor.is_cuda:
                found[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                found[name].copy_(tensor.detach(), non_blocking=True)
                copied.add(tensor.device)
            else:
                found[name] = tensor.detach().cpu()
        return found

    state = EditorState(copy(checkpoint.state.tensors), checkpoint.state.scalars)
    attachment = checkpoint.attachment
    if attachment is not None:
        attachment = replace(attachment, tensors=copy(attachment.tensors))
    whole = replace(
        checkpoint,
        weights=copy(checkpoint.weights),
        state=state,
        raw=copy(checkpoint.raw),
        attachment=attachment,
        tuned=copy(checkpoint.tuned),
    )
    arrived = [
        torch.get_device_module(device).current_stream(device).record_event() for device in sorted(copied, key=str)
    ]

    def wait() -> None:
        for event in arrived:
            event.synchronize()

    return whole, wait


def read_checkpoint(storage: Storage, position: int) -> Checkpoint:
    """Read one checkpoint and check both digests; raises InputError if a file does not match its manifest."""
    manifest = read_manifest(storage, position)
    parts = {name: _tensors(storage, position, manifest, name) for name in manifest.files}
    return Checkpoint(
        trajectory_id=manifest.trajectory_id,
        edits=manifest.edits,
        weights=parts[WEIGHTS],
        state=EditorState(parts[STATE], manifest.scalars),
        contexts=manifest.contexts,
        collapsed=manifest.collapsed,
        raw={name.removeprefix("raw/"): weight for name, weight in parts.get(RAW, {}).items()},
        attachment=_attachment(manifest, parts.get(ATTACHED, {})),
        tuned=parts.get(TUNED, {}),
        steps=manifest.steps,
    )


def read_installed(storage: Storage, position: int, *, with_state: bool = False) -> Installed:
    """Read the scored weights of one checkpoint, its attachment and tuned parameters, and `with_state` the editor's.

    Raises InputError if they do not match their manifest, FileNotFoundError if any file of the checkpoint is missing.
    """
    manifest = read_manifest(storage, position)
    for name in manifest.files:
        if not storage.exists(checkpoint_file(position, name)):
            raise FileNotFoundError(f"{storage.uri}/{checkpoint_file(position, name)}")
    weights = _tensors(storage, position, manifest, WEIGHTS)
    tensors = {} if manifest.attached is None else _tensors(storage, position, manifest, ATTACHED)
    tuned = _tensors(storage, position, manifest, TUNED) if TUNED in manifest.files else {}
    state = _tensors(storage, position, manifest, STATE) if with_state else {}
    return Installed(weights, _attachment(manifest, tensors), manifest.scalars, tuned, state)


def _attachment(manifest: Manifest, tensors: Mapping[str, torch.Tensor]) -> Attachment | None:
    if manifest.attached is None:
        return None
    return Attachment(manifest.attached["kind"], tensors, manifest.attached["scalars"])


def _tensors(storage: Storage, position: int, manifest: Manifest, name: str) -> dict[str, torch.Tensor]:
    data = storage.read_bytes(checkpoint_file(position, name))
    if hashlib.sha256(data).hexdigest() != manifest.files[name]:
        raise InputError(
            f"{name} does not match the digest in its manifest",
            where=f"{storage.uri}/{checkpoint_folder(position)}",
            remedy="delete this checkpoint's folder and run again: the trajectory resumes from the one before it",
        )
    return read_tensors(data)


def latest_checkpoint(storage: Storage, *, at_most: int | None = None) -> Checkpoint | None:
    """Return the newest checkpoint whose files match their digests, or None; `at_most` limits its position.

    A damaged checkpoint is skipped in favour of the previous one; the trajectory then repeats that interval and
    publishes it again.
    """
    for position in reversed(checkpoints_in(storage)):
        if at_most is not None and position > at_most:
            continue
        try:
            return read_checkpoint(storage, position)
        except (InputError, FileNotFoundError):
            continue
    return None


def _write(storage: Storage, path: str, tensors: Mapping[str, torch.Tensor], guard: Callable[[], None]) -> str:
    """Publish one file of tensors and return its sha256."""
    digest = ""

    def write(scratch: Path) -> None:
        nonlocal digest
        digest = write_tensors({name: tensor.detach().cpu() for name, tensor in tensors.items()}, scratch)

    storage.write_file(path, write, repeatable=True, guard=guard)
    return digest
