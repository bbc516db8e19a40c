"""`sphere factworld train`: the embedded model, from scratch."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _factworld() -> None:
    """The embedded model: a small Llama that knows two thousand invented facts."""


_EPILOG = """\b
Examples:
  sphere factworld train --out my-factworld    as the shipped one was trained
  sphere factworld train --out my-factworld --settings settings.yaml

Edit the result with `models: [{source: my-factworld, dtype: float32, preset: factworld}]`.
"""


@app.command(short_help="Train the fact world's model from scratch", epilog=_EPILOG)
def train(
    out: Annotated[Path, typer.Option(help="Folder for the trained model; it appears when training is done")],
    settings: Annotated[Path | None, typer.Option(help="Settings (YAML); default: those of the shipped model")] = None,
) -> None:
    """Train tokenizer and model from scratch on the CPU and measure their recall; about three minutes."""
    from workflows.runs.factworld import train_embedded_model

    console = output_console()
    report = train_embedded_model(out=out, settings=settings, console=console)
    console.print(f"recall: {report}", highlight=False, soft_wrap=True)
    console.print(f"model: {out}", highlight=False, soft_wrap=True)
