"""`sphere run`: a sweep from its file to its table."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.commands.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere run examples/quickstart.yaml                      start Ray on this machine
  sphere run sweep.yaml --address auto                     attach to the cluster this machine is a node of
  sphere run sweep.yaml --local                            one replica in this process, no Ray
  sphere run sweep.yaml --root s3://bucket/sweeps/main     keep everything on an object store

The same command again goes on where the last one stopped, and does nothing when all is done.
Exit codes: 0 all done, 1 something failed (see the table of failures), 2 wrong input or another driver at work,
3 storage full or gone, 130 stopped.
"""


@app.command(epilog=_EPILOG)
def run(
    sweep: Annotated[Path, typer.Argument(help="Sweep file (YAML)")],
    root: Annotated[str | None, typer.Option(help="Where the sweep lives: a folder or URL; default runs/NAME")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to attach to; default: start one here")] = None,
    local: Annotated[bool, typer.Option("--local", help="Run in this process, one replica, without Ray")] = False,
    num_cpus: Annotated[int | None, typer.Option(help="CPUs for a Ray started here; default: all")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run again what failed before")] = False,
    steal: Annotated[bool, typer.Option("--steal", help="Take the sweep over from a driver that hangs")] = False,
) -> None:
    """Run a sweep: edit, score every checkpoint, gather rows, print the table."""
    from workflows.runs.sweep_file import run_sweep_file

    ended = run_sweep_file(
        sweep=sweep,
        root=root,
        address=address,
        local=local,
        num_cpus=num_cpus,
        retry_failed=retry_failed,
        steal=steal,
        console=output_console(),
    )
    raise typer.Exit(ended.exit_code)
