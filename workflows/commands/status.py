"""`sphere status`: the state of each trajectory."""

import contextlib
from typing import Annotated

import typer

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.commands.output_options import JsonOption, WideOption
from workflows.results.status.latest_scores import LastScores
from workflows.results.status.status import status_panel, status_records
from workflows.results.status.watch import watch as watch_sweep
from workflows.store.plan import read_plan
from workflows.store.state import derive_state
from workflows.terminal.console import output_console, print_json

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere status runs/quickstart           once
  sphere status runs/quickstart --watch   every five seconds, until done
  sphere status s3://bucket/sweeps/main --watch --every 60
  sphere status runs/quickstart --json    one record per trajectory
"""


@app.command(epilog=_EPILOG)
def status(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until the sweep is complete")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks")] = 5.0,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """Show each trajectory's state, edits, rate, time left and last scores, and what failed; from files alone."""
    if watch and as_json:
        raise InputError("--watch and --json exclude each other", remedy="leave one out")
    storage = Storage(root)
    storage.require_reachable()
    plan = read_plan(storage)
    console = output_console()
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            watch_sweep(storage, plan, console, seconds=every)
        return
    state, scores = derive_state(storage, plan), LastScores(storage)
    if as_json:
        record = {
            "name": plan.name,
            "complete": state.is_complete,
            "trajectories": status_records(state, scores),
            "earlier_trajectories": list(state.earlier),
            "failures": [failure.as_json() for failure in state.failures],
        }
        print_json(console, record)
        return
    console.print(status_panel(plan, state, scores, wide=wide), soft_wrap=wide)
