"""`sphere stop`: a submitted sweep."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sphere_core.foundation.errors import InputError, unknown_name
from workflows.cluster.jobs import FINISHED, connect, jobs_of, stop_job
from workflows.cluster.jobs_address import cluster_address
from workflows.commands.console import output_console
from workflows.sweeps.yaml_source import read_yaml

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

# Beyond what the job itself is given to publish its checkpoints; and for jobs that do not say how much that is.
_MARGIN_SECONDS, _SECONDS = 30.0, 150.0

_EPILOG = """\b
Examples:
  sphere stop sweep.yaml --address http://127.0.0.1:8265
  sphere stop sphere-main-0123456789ab-1 --cluster cluster.yaml

Running trajectories publish a checkpoint first; `sphere submit` goes on from there.
"""


@app.command("stop", epilog=_EPILOG)
def command(
    job: Annotated[str, typer.Argument(help="A job's id, or the sweep file that was submitted")],
    address: Annotated[str | None, typer.Option(help="The cluster's Jobs API: http(s)://HOST:PORT")] = None,
    cluster: Annotated[Path | None, typer.Option(help="A file of Ray's cluster launcher: opens a tunnel")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http without a token")] = False,
) -> None:
    """Stop a submitted sweep; what it has published stays."""
    console = output_console()
    with cluster_address(address, cluster, insecure=insecure) as place:
        client = connect(place)
        name, state = _find(client, job)
        if state in FINISHED:
            console.print(f"{name} has ended already: {state}", highlight=False)
            return
        console.print(f"stopping {name}; its replicas publish their checkpoints", highlight=False)
        given = float((client.get_job_info(name).metadata or {}).get("stop_seconds", _SECONDS))
        state = stop_job(client, name, seconds=given + _MARGIN_SECONDS)
        console.print(f"{name}: {state}", highlight=False)
        if state not in FINISHED:
            raise typer.Exit(1)


def _find(client: Any, job: str) -> tuple[str, str]:
    """Return the id and state of a job given by id, or of the one job of a sweep that is under way."""
    path = Path(job)
    if not path.is_file():
        jobs = jobs_of(client)
        if job not in jobs:
            raise unknown_name("job", job, jobs)
        return job, jobs[job]
    data = read_yaml(path).data
    name = str(data.get("name")) if isinstance(data, dict) else ""
    jobs = jobs_of(client, sweep=name)
    active = [key for key, state in jobs.items() if state not in FINISHED]
    if len(active) > 1:
        raise InputError(
            f"{len(active)} jobs of the sweep '{name}' are under way, with different roots",
            where=job,
            remedy=f"name one of them: {', '.join(active)}",
        )
    if not jobs:
        raise InputError(f"no job of a sweep '{name}' on this cluster", where=job, remedy="see `ray job list`")
    last = (active or list(jobs))[-1]
    return last, jobs[last]
