"""`sphere run`: a sweep from its file to its table."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.commands.output_options import EndJsonOption, QuietOption
from workflows.commands.place_options import AddressOption, LocalOption, NumCpusOption
from workflows.commands.run_end import print_end, run_consoles
from workflows.commands.set_option import SetOption
from workflows.commands.task_options import TrustTaskCodeOption

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere run sweep.yaml                     start Ray on this machine
  sphere run sweep.yaml --address auto      attach to this node's cluster
  sphere run sweep.yaml --local             one replica, no Ray
  sphere run sweep.yaml --quiet             print problems only
  sphere run sweep.yaml --root s3://b/main  write to an object store
  sphere run sweep.yaml --fresh memit+mine  compute one method again
  sphere run sweep.yaml --set 'seeds=[0, 1]'
                                            replace a value of the file

Run the same command to resume (without --fresh, which would begin again); it does nothing when all is done.
Exit codes: 0 all done, 1 something failed (see the table of failures), 2 wrong input or another driver at work,
3 storage full or gone, 130 stopped.
"""


@app.command(epilog=_EPILOG)
def run(
    sweep: Annotated[Path, typer.Argument(help="Sweep file (YAML)")],
    root: Annotated[str | None, typer.Option(help="Where the sweep lives: a folder or URL; default runs/NAME")] = None,
    set_: SetOption = None,
    address: AddressOption = None,
    local: LocalOption = False,
    num_cpus: NumCpusOption = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run again what failed before")] = False,
    steal: Annotated[bool, typer.Option("--steal", help="Take the sweep over from a driver that hangs")] = False,
    fresh: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help="Delete what this method has computed, and compute it again"),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take a root that holds another sweep; what is stored stays")
    ] = False,
    trust_task_code: TrustTaskCodeOption = False,
    quiet: QuietOption = False,
    as_json: EndJsonOption = False,
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
        fresh=fresh or (),
        replace=replace,
        overrides=set_ or (),
        trust_task_code=trust_task_code,
        **run_consoles(quiet=quiet, as_json=as_json),
    )
    if as_json:
        print_end(ended.root, ended.exit_code)
    raise typer.Exit(ended.exit_code)
