"""`sphere submit`: a sweep as a job on a Ray cluster."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.consoles import output_console
from workflows.submit import check_address, plan_submission, submit

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere submit sweep.yaml --address http://127.0.0.1:8265 --root s3://bucket/sweeps/main --follow
  sphere submit sweep.yaml --address https://ray.example.org --root /mnt/sphere/main

The same sweep and root given again attach to the job under way; after it has ended they start the next, which
goes on from what is on storage. The token is read from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token.
"""


@app.command("submit", epilog=_EPILOG)
def command(
    sweep: Annotated[Path, typer.Argument(help="Sweep file (YAML), inside the working directory")],
    address: Annotated[str, typer.Option(help="The cluster's Jobs API: http(s)://HOST:PORT")],
    root: Annotated[str, typer.Option(help="Where the sweep lives: storage that all nodes share")],
    working_dir: Annotated[Path, typer.Option(help="Folder that is sent to the cluster, without junk")] = Path(),
    follow: Annotated[bool, typer.Option("--follow", help="Show the job's log until it ends")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http without a token")] = False,
) -> None:
    """Submit a sweep to a Ray cluster as a job, once; a second time attaches to it."""
    check_address(address, insecure=insecure)
    submission = plan_submission(sweep, working_dir, root)
    raise typer.Exit(submit(submission, address, follow=follow, console=output_console()))
