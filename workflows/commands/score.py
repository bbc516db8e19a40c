"""`sphere score`: score the checkpoints that are there, and edit nothing."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.commands.output_options import EndJsonOption, QuietOption
from workflows.commands.place_options import AddressOption, LocalOption, NumCpusOption
from workflows.commands.run_end import print_end, run_consoles
from workflows.commands.task_options import TrustTaskCodeOption

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere score runs/quickstart            start Ray on this machine
  sphere score runs/quickstart --local    one replica, no Ray
  sphere score runs/main --sweep main.yaml
                                          where its paths are relative

For a run that was stopped, or that ran far ahead of its scores. A later 'sphere run' edits further and finds these
scores done. Exit codes are those of 'sphere run'; 0: all that is there is scored.
"""


@app.command(epilog=_EPILOG)
def score(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    sweep: Annotated[
        Path | None, typer.Option(help="The sweep file; default: the copy below the root, if it names no other files")
    ] = None,
    address: AddressOption = None,
    local: LocalOption = False,
    num_cpus: NumCpusOption = None,
    trust_task_code: TrustTaskCodeOption = False,
    quiet: QuietOption = False,
    as_json: EndJsonOption = False,
) -> None:
    """Score every checkpoint below a root that has no rows yet; edit nothing."""
    from workflows.runs.score import score_root

    code = score_root(
        root=root,
        sweep=sweep,
        address=address,
        local=local,
        num_cpus=num_cpus,
        trust_task_code=trust_task_code,
        **run_consoles(quiet=quiet, as_json=as_json),
    )
    if as_json:
        print_end(root, code)
    raise typer.Exit(code)
