"""`sphere track`: a sweep as runs of an experiment tracker."""

import time
from typing import Annotated

import typer

from sphere_core.foundation.storage import Storage
from workflows.store.plan import read_plan
from workflows.terminal.console import output_console, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere track runs/main --to trackio
  sphere track runs/main --to wandb --place tracked   files for `wandb sync`
  sphere track runs/main --to mlflow --place http://127.0.0.1:5000 --watch

One run per trajectory, one step per checkpoint that every evaluator has scored; the step
is the number of edits, 0 the unedited model. Only what is new is sent: the root records
what was. Extras: sphere-editing[trackio], [wandb], [mlflow].
"""


@app.command(epilog=_EPILOG)
def track(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    to: Annotated[str, typer.Option(help="The tracker: trackio, wandb or mlflow")],
    project: Annotated[str | None, typer.Option(help="Project or experiment; default: the sweep's name")] = None,
    place: Annotated[str | None, typer.Option(help="Folder, or MLflow's tracking URI; default: the tracker's")] = None,
    online: Annotated[bool, typer.Option("--online", help="Weights & Biases: send at once, not into files")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until the sweep is complete")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks under --watch")] = 30.0,
) -> None:
    """Send the scores of a sweep to an experiment tracker, from its files, during or after a run."""
    from workflows.results.trackers.send import Destination, open_tracker, send_sweep

    storage = Storage(root)
    storage.require_reachable()
    plan = read_plan(storage)
    destination = Destination(to, project or plan.name, place, online)
    tracker = open_tracker(destination)
    while True:
        count, complete = send_sweep(storage, plan, tracker, destination)
        say(
            output_console(), f"{count} checkpoints sent to {to}{'' if complete else '; the sweep is not complete yet'}"
        )
        if complete or not watch:
            return
        time.sleep(every)
