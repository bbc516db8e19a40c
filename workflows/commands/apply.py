"""`sphere apply`: the edited model from the base model and its edited weights."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere apply delta --model meta-llama/Meta-Llama-3-8B-Instruct \\
      --to edited-model
  sphere apply delta/delta.safetensors --model ./gpt2-xl --to edited-model

The folder is what 'sphere export' writes, byte for byte. Another base model than the one that was edited is refused.
"""


@app.command(epilog=_EPILOG)
def apply(
    delta: Annotated[Path, typer.Argument(help="What 'sphere export --delta-only' wrote: the folder or its file")],
    model: Annotated[str, typer.Option(help="The base model: folder, hub id, or 'factworld'")],
    to: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet")],
    revision: Annotated[str | None, typer.Option(help="Revision of a hub id; default: the one that was edited")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python files that come with the model")
    ] = False,
) -> None:
    """Make the edited model again from the base model and its edited weights, verified by digests."""
    from transformers.utils import logging as transformers_logging

    from workflows.runs.export import apply_delta

    transformers_logging.disable_progress_bar()
    applied, digest = apply_delta(delta=delta, model=model, to=to, revision=revision, remote_code=trust_remote_code)
    text = f"edited model   {to}, {applied.dtype}, digest {digest[:16]}"
    output_console().print(text, highlight=False, soft_wrap=True)
