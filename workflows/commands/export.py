"""`sphere export`: a checkpoint as a plain Hugging Face model, or its edited weights alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from sphere_core.export import DELTA_FILE, Delta, Merge, edited_model, encode_delta, merges, save_model
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel, model_digest
from workflows.commands.console import output_console
from workflows.runs.checkpoint_address import FoundCheckpoint, find_checkpoint
from workflows.runs.model_card import checkpoint_scores, model_card

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere export runs/main/trajectories/3f2a.../checkpoints/000500 --to edited-model
  sphere export runs/main --trajectory 3f2a... --to edited-model          its last checkpoint
  sphere export runs/main --trajectory 3f2a... --edits 200 --to edited-model
  sphere export edited/000025 --to delta --delta-only                     what 'sphere edit' wrote

The folder loads with AutoModelForCausalLM.from_pretrained; its README.md says what was edited. With --delta-only it
holds the edited weights alone, and 'sphere apply' makes the same folder from them and the base model, byte for byte.
"""


@app.command(epilog=_EPILOG)
def export(
    checkpoint: Annotated[str, typer.Argument(help="Folder or URL of a checkpoint, a trajectory or a sweep")],
    to: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet")],
    trajectory: Annotated[str | None, typer.Option(help="Trajectory of the sweep, by its id")] = None,
    edits: Annotated[int | None, typer.Option(min=1, help="Checkpoint after so many edits; default: the last")] = None,
    delta_only: Annotated[bool, typer.Option("--delta-only", help="Write the edited weights alone")] = False,
    model: Annotated[str | None, typer.Option(help="The base model, where it has moved since")] = None,
) -> None:
    """Write an edited model as a plain Hugging Face folder with a model card; say what its dtype loses of the edit."""
    transformers_logging.disable_progress_bar()
    console = output_console()
    found = find_checkpoint(checkpoint, trajectory=trajectory, edits=edits)
    if found.checkpoint.collapsed:
        raise InputError(
            f"the model has collapsed: after {found.checkpoint.edits} edits a weight is no longer finite",
            where=checkpoint,
            remedy="choose an earlier checkpoint with --edits",
        )
    if to.exists():
        raise InputError("the folder exists already", where=str(to), remedy="give another --to, or remove it")
    edited = _edited(found, model)
    merged = merges(edited)
    delta = _delta(found, edited, merged)
    if delta_only:
        _write_delta(delta, to)
    else:
        save_model(edited, delta, to)
    console.print(_merge_table(merged, found.spec.dtype))
    _say(console, delta, to, delta_only=delta_only)


def _edited(found: FoundCheckpoint, model: str | None) -> EditableModel:
    spec = found.spec
    return edited_model(
        model or spec.model,
        found.checkpoint.weights,
        dtype=spec.dtype,
        base_digest=spec.model_digest,
        revision=None if model else spec.revision,
        remote_code=spec.remote_code,
    )


def _delta(found: FoundCheckpoint, edited: EditableModel, merged: Sequence[Merge]) -> Delta:
    spec, done = found.spec, found.checkpoint
    scores = [] if found.sweep is None else checkpoint_scores(found.sweep, done.trajectory_id, done.edits)
    return Delta(
        weights=done.weights,
        model=spec.model,
        revision=spec.revision,
        base_digest=spec.model_digest,
        dtype=spec.dtype,
        weights_digest=edited.weights_digest(),
        card=model_card(found, edited, merged, scores),
    )


def _write_delta(delta: Delta, to: Path) -> None:
    storage = Storage(to.resolve())
    storage.write_bytes("README.md", delta.card.encode())
    storage.write_bytes(DELTA_FILE, encode_delta(delta))


def _merge_table(merged: Sequence[Merge], dtype: str) -> Table:
    """Return one line a site: the change, and what each dtype loses of it, the largest error and the share."""
    names = list(dict.fromkeys(merge.dtype for merge in merged))
    table = Table(title="What storing the edited weights loses", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("weight", no_wrap=True)
    table.add_column("|dW|/|W|", justify="right")
    for name in names:
        table.add_column(f"{name}{' (stored)' if name == dtype else ''}\nlargest, share of dW", justify="right")
    by_site: dict[str, list[Merge]] = {}
    for merge in merged:
        by_site.setdefault(merge.site, []).append(merge)
    for site, entries in by_site.items():
        cells = [f"{entry.largest:.1e}, {entry.share:.2%}" for entry in entries]
        table.add_row(site, f"{entries[0].change:.3g}", *cells)
    return table


def _say(console: Console, delta: Delta, to: Path, *, delta_only: bool) -> None:
    size = sum(path.stat().st_size for path in to.iterdir() if path.is_file()) / 1e6
    lines = [f"base model     {delta.model}, digest {delta.base_digest[:16]}"]
    if delta_only:
        lines += [f"edited weights {to / DELTA_FILE}, {size:.1f} MB, float32"]
        lines += [f"put them on:   sphere apply {to} --model {delta.model} --to FOLDER"]
    else:
        lines += [f"edited model   {to}, {size:.1f} MB, {delta.dtype}, digest {model_digest(to)[:16]}"]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
