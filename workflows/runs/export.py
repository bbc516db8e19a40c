"""Edited models to take away: a checkpoint as a plain Hugging Face folder or as its edited weights alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sphere_core.export import (
    DELTA_FILE,
    NETWORK,
    Delta,
    Merge,
    edited_model,
    encode_delta,
    merges,
    read_delta,
    save_model,
)
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel, model_digest
from workflows.runs.checkpoint_address import FoundCheckpoint, find_checkpoint
from workflows.runs.model_card import checkpoint_scores, model_card
from workflows.runs.notebook import EditedModel
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["Export", "apply_delta", "export_checkpoint", "export_lines", "export_record", "merge_table"]


@dataclass(frozen=True)
class Export:
    """What was written: the folder, what it holds, and what storing the weights loses of each site's change."""

    folder: Path
    delta: Delta
    merges: tuple[Merge, ...]
    weights_only: bool


def export_checkpoint(
    *,
    checkpoint: str | EditedModel,
    to: Path,
    trajectory: str | None = None,
    edits: int | None = None,
    weights_only: bool = False,
    model: str | None = None,
) -> Export:
    """Write an edited model as a Hugging Face folder with a model card, or its edited weights alone.

    `checkpoint` is the folder or URL of a checkpoint, a trajectory or a sweep, or a model that `edit` returned;
    `trajectory` names one of a sweep, `edits` one of its checkpoints (default: the last). `model` is where the base
    model is now, if it has moved. Writes `to`, which must not exist. Raises InputError, with nothing written, where
    there is no such checkpoint, where its model has collapsed, where `to` exists, or where the base model is another.
    """
    if isinstance(checkpoint, EditedModel):
        found = _in_memory(checkpoint)
    else:
        found = find_checkpoint(checkpoint, trajectory=trajectory, edits=edits)
    if found.checkpoint.collapsed:
        raise InputError(
            f"the model has collapsed: after {found.checkpoint.edits} edits a weight is no longer finite",
            where=checkpoint if isinstance(checkpoint, str) else found.spec.model,
            remedy="choose an earlier checkpoint with --edits",
        )
    _require_absent(to)
    edited = _edited(found, model)
    merged = tuple(merges(edited))
    delta = _delta(found, edited, merged)
    if weights_only:
        storage = Storage(to.resolve())
        storage.write_bytes("README.md", delta.card.encode())
        storage.write_bytes(DELTA_FILE, encode_delta(delta))
    else:
        save_model(edited, delta, to)
    return Export(to, delta, merged, weights_only)


def apply_delta(
    *, delta: Path, model: str, to: Path, revision: str | None = None, remote_code: bool = False
) -> tuple[Delta, str]:
    """Write the edited model that edited weights and their base model make; return the delta and the folder's digest.

    `delta` is a folder or file that `export_checkpoint(weights_only=True)` wrote. The result is byte for byte what
    `export_checkpoint` writes. Raises InputError if `to` exists or if the base model is not the one that was edited.
    """
    _require_absent(to)
    read = read_delta(delta / DELTA_FILE if delta.is_dir() else delta)
    same_id = read.revision if model == read.model else None
    edited = edited_model(
        model,
        read.weights,
        read.attachment,
        read.tuned,
        dtype=read.dtype,
        base_digest=read.base_digest,
        revision=revision or same_id,
        remote_code=remote_code,
    )
    save_model(edited, read, to)
    return read, _digest(to)


def _digest(folder: Path) -> str:
    """Return the digest of the network in an exported folder."""
    return model_digest(folder / NETWORK if (folder / NETWORK).exists() else folder)


def _in_memory(edited: EditedModel) -> FoundCheckpoint:
    if edited.checkpoint is None or edited.spec is None:
        raise InputError("the model is unedited: there is nothing to export", where=edited.model.source)
    return FoundCheckpoint(edited.checkpoint, edited.spec, None)


def _require_absent(to: Path) -> None:
    if to.exists():
        raise InputError("the folder exists already", where=str(to), remedy="give another --to, or remove it")


def _edited(found: FoundCheckpoint, model: str | None) -> EditableModel:
    spec = found.spec
    return edited_model(
        model or spec.model,
        found.checkpoint.weights,
        found.checkpoint.attachment,
        found.checkpoint.tuned,
        dtype=spec.dtype,
        base_digest=spec.model_digest,
        revision=None if model else spec.revision,
        remote_code=spec.remote_code,
        family=spec.family,
    )


def _delta(found: FoundCheckpoint, edited: EditableModel, merged: Sequence[Merge]) -> Delta:
    spec, done = found.spec, found.checkpoint
    scores = [] if found.sweep is None else checkpoint_scores(found.sweep, done.trajectory_id, done.position)
    return Delta(
        weights=done.weights,
        model=spec.model,
        revision=spec.revision,
        base_digest=spec.model_digest,
        dtype=spec.dtype,
        weights_digest=edited.weights_digest(),
        card=model_card(found, edited, merged, scores),
        attachment=done.attachment,
        tuned=done.tuned,
    )


def merge_table(exported: Export) -> TextTable:
    """Return one line per site: the change, and what each dtype loses of it, the largest error and the share."""
    merged, stored = exported.merges, exported.delta.dtype
    names = list(dict.fromkeys(merge.dtype for merge in merged))
    columns = [Column("weight"), Column("|dW|/|W|", right=True)]
    for name in names:
        head = f"{name}{' (stored)' if name == stored else ''}: largest, share of dW"
        columns.append(Column(head, 0 if name == stored else 1, right=True))
    by_site: dict[str, list[Merge]] = {}
    for merge in merged:
        by_site.setdefault(merge.site, []).append(merge)
    rows: list[list[Cell]] = [
        [site, f"{entries[0].change:.3g}", *(f"{entry.largest:.1e}, {entry.share:.2%}" for entry in entries)]
        for site, entries in by_site.items()
    ]
    return TextTable(columns, rows, "what storing the edited weights loses")


def export_record(exported: Export) -> dict[str, object]:
    """Return what was written, for JSON; `digest` is that of the network, None if the weights alone were written."""
    delta, to = exported.delta, exported.folder
    return {
        "folder": str(to),
        "bytes": _size(to),
        "weights_only": exported.weights_only,
        "digest": None if exported.weights_only else _digest(to),
        "weights_digest": delta.weights_digest,
        "model": delta.model,
        "revision": delta.revision,
        "base_digest": delta.base_digest,
        "dtype": delta.dtype,
        "attachment": None if delta.attachment is None else delta.attachment.kind,
        "merges": [asdict(merge) for merge in exported.merges],
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def export_lines(exported: Export) -> list[str]:
    """Return what was written and how to use it, one line per fact."""
    delta, to = exported.delta, exported.folder
    size = _size(to) / 1e6
    lines = [f"base model     {delta.model}, digest {delta.base_digest[:16]}"]
    if exported.weights_only:
        lines += [f"edited weights {to / DELTA_FILE}, {size:.1f} MB, float32"]
        lines += [f"put them on:   sphere apply {to} --model {delta.model} --to FOLDER"]
    else:
        lines += [f"edited model   {to}, {size:.1f} MB, {delta.dtype}, digest {_digest(to)[:16]}"]
    if delta.attachment is not None:
        held = f"{delta.attachment.kind}, {delta.attachment.size / 1e6:.2f} MB"
        lines += [f"attachment     {held}; plain transformers cannot represent it"]
        lines += [f'load it with:  sphere_core.export.load_exported(Path("{to}"))']
    return lines
