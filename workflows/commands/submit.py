"""`sphere submit`: a sweep as a job on a Ray cluster."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.cluster.jobs_address import cluster_address
from workflows.commands.output_options import EndJsonOption
from workflows.commands.set_option import SetOption
from workflows.commands.task_options import TrustTaskCodeOption
from workflows.terminal.console import notice_console, output_console, print_json, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere submit sweep.yaml --address http://127.0.0.1:8265 \\
      --root s3://bucket/sweeps/main --follow
  sphere submit sweep.yaml --cluster cluster.yaml --root /mnt/sphere/main
  sphere stop sweep.yaml --cluster cluster.yaml

The job takes along the code that runs here, the sweep file and the relative paths that it names, folders whole, and
what its task files name; the list is printed first. Files above the sweep file's folder or behind links need
--outside, keys and credentials are never sent. Absolute paths and URLs must mean the same on every node. The same
sweep and root given again attach to the job under way; after it has ended they start the next, which resumes from
storage. The token is read from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token. With --follow the exit code
is that of `sphere run`, or 1 where the connection is lost; Ctrl-C leaves the job running.
"""


@app.command(epilog=_EPILOG)
def submit(
    sweep: Annotated[Path, typer.Argument(help="Sweep file (YAML)")],
    root: Annotated[str, typer.Option(help="Where the sweep lives: storage that all nodes share")],
    set_: SetOption = None,
    address: Annotated[str | None, typer.Option(help="The cluster's Jobs API: http(s)://HOST:PORT")] = None,
    cluster: Annotated[Path | None, typer.Option(help="A file of Ray's cluster launcher: opens a tunnel")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show the job's log until it ends")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take a root that holds another sweep; what is stored stays")
    ] = False,
    trust_task_code: TrustTaskCodeOption = False,
    outside: Annotated[
        bool, typer.Option("--outside", help="Send files above the sweep file's folder or behind links too")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http without a token")] = False,
    as_json: EndJsonOption = False,
) -> None:
    """Submit a sweep to a Ray cluster as a job; the same command again attaches to the running job."""
    from workflows.cluster.jobs import connect, follow_job
    from workflows.cluster.submit import plan_submission, submit_once

    console = notice_console() if as_json else output_console()
    submission = plan_submission(
        sweep, root, replace=replace, trust_task_code=trust_task_code, overrides=set_ or (), outside=outside
    )
    for line in submission.package.lines():
        say(console, line)
    for name, digest in submission.package.plugins:
        say(console, f"plugin {name} {digest[:12]}: its code is run on the cluster, with the rights of the job")
    with cluster_address(address, cluster, insecure=insecure) as place:
        client = connect(place)
        job = submit_once(submission, client, console)
        exit_code = follow_job(client, job, console) if follow else None
    if as_json:
        given = {"sweep": submission.package.sweep_name, "root": submission.root}
        print_json(output_console(), {"job": job, **given, "exit_code": exit_code})
    if exit_code is not None:
        raise typer.Exit(exit_code)
    console.print("the same command with --follow shows its log", highlight=False)
    console.print(f"from files alone: sphere status {submission.root}", highlight=False, soft_wrap=True)
