"""`sphere stop`: a submitted sweep."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.cluster.jobs import FINISHED, connect, stop_job
from workflows.cluster.jobs_address import cluster_address
from workflows.cluster.submit import find_job, stop_seconds
from workflows.commands.output_options import EndJsonOption
from workflows.terminal.console import notice_console, output_console, print_json

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere stop sweep.yaml --address http://127.0.0.1:8265
  sphere stop sphere-main-0123456789ab-1 --cluster cluster.yaml

Running trajectories publish a checkpoint first; `sphere submit` resumes from there.
"""


@app.command(epilog=_EPILOG)
def stop(
    job: Annotated[str, typer.Argument(help="A job's id, or the sweep file that was submitted")],
    address: Annotated[str | None, typer.Option(help="The cluster's Jobs API: http(s)://HOST:PORT")] = None,
    cluster: Annotated[Path | None, typer.Option(help="A file of Ray's cluster launcher: opens a tunnel")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http without a token")] = False,
    as_json: EndJsonOption = False,
) -> None:
    """Stop a submitted sweep; what it has published stays."""
    console = notice_console() if as_json else output_console()
    with cluster_address(address, cluster, insecure=insecure) as place:
        client = connect(place)
        name, state = find_job(client, job)
        if state in FINISHED:
            console.print(f"{name} has ended already: {state}", highlight=False)
        else:
            console.print(f"stopping {name}; its replicas publish their checkpoints", highlight=False)
            state = stop_job(client, name, seconds=stop_seconds(client, name))
            console.print(f"{name}: {state}", highlight=False)
    if as_json:
        print_json(output_console(), {"job": name, "state": state, "ended": state in FINISHED})
    raise typer.Exit(0 if state in FINISHED else 1)
