"""`sphere export`: a checkpoint as a plain Hugging Face model, or its edited weights alone."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.commands.output_options import JsonOption
from workflows.terminal.console import output_console, print_json

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere export runs/main --trajectory 3f2a... --to edited-model
                                                 its last checkpoint
  sphere export runs/main --trajectory 3f2a... --edits 200 --to edited-model
  sphere export runs/main/trajectories/3f2a.../checkpoints/000500 \\
      --to edited-model
  sphere export edited/000025 --to delta --delta-only
                                                 what 'sphere edit' wrote

The folder loads with AutoModelForCausalLM.from_pretrained; its README.md says what was edited. With --delta-only it
holds the edited weights alone, and 'sphere apply' makes the same folder from them and the base model, byte for byte.
What a memory editor (neuraldb) stores is not a weight; its folder is loaded with sphere_core.export.load_exported.
"""


@app.command(epilog=_EPILOG)
def export(
    checkpoint: Annotated[str, typer.Argument(help="Folder or URL of a checkpoint, a trajectory or a sweep")],
    to: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet")],
    trajectory: Annotated[str | None, typer.Option(help="Trajectory of the sweep, by its id or its beginning")] = None,
    edits: Annotated[int | None, typer.Option(min=1, help="Checkpoint after N edits; default: the last")] = None,
    delta_only: Annotated[bool, typer.Option("--delta-only", help="Write the edited weights alone")] = False,
    model: Annotated[str | None, typer.Option(help="The base model, where it has moved since")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write an edited model as a plain Hugging Face folder with a model card, and report the rounding error of its
    dtype."""
    from transformers.utils import logging as transformers_logging

    from workflows.runs.export import export_checkpoint, export_lines, export_record, merge_table

    transformers_logging.disable_progress_bar()
    console = output_console()
    exported = export_checkpoint(
        checkpoint=checkpoint, to=to, trajectory=trajectory, edits=edits, weights_only=delta_only, model=model
    )
    if as_json:
        print_json(console, export_record(exported))
        return
    if exported.merges:
        console.print(merge_table(exported))
    for line in export_lines(exported):
        console.print(line, highlight=False, soft_wrap=True)
