"""`sphere status`: where each trajectory stands."""

from typing import Annotated

import typer

from sphere_core.storage import Storage
from workflows.consoles import output_console
from workflows.plan import read_plan
from workflows.status import status_panel

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="\b\nExamples:\n  sphere status runs/quickstart\n  sphere status s3://bucket/sweeps/main")
def status(root: Annotated[str, typer.Argument(help="The sweep's folder or URL")]) -> None:
    """Show each trajectory's state, edits, rate and last score, and what failed; from files alone."""
    storage = Storage(root)
    storage.require_reachable()
    output_console().print(status_panel(storage, read_plan(storage)))
