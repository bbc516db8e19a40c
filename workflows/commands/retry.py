"""`sphere retry`: clear failures, so that the next run repeats the work."""

from functools import partial
from typing import Annotated

import typer

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.commands.output_options import JsonOption
from workflows.store.driver_lock import DriverLock
from workflows.store.plan import read_plan
from workflows.store.retry import forget_failures
from workflows.store.state import derive_state
from workflows.terminal.console import notice_console, output_console, print_json, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere retry runs/quickstart --failed       all that has failed
  sphere retry runs/quickstart --id 1f0c2ab3  one trajectory, as in status

The records of the failures are kept beside, in folders named `retried`. Then run the sweep again.
"""


@app.command(epilog=_EPILOG)
def retry(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    failed: Annotated[bool, typer.Option("--failed", help="Everything that has failed")] = False,
    name: Annotated[
        list[str] | None, typer.Option("--id", help="A trajectory or task, or how its id begins; may be given again")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Clear failure records, so that the next `sphere run` does that work again; runs nothing itself."""
    if failed == bool(name):
        raise InputError("say what to retry", where="sphere retry", remedy="give either --failed or --id NAME")
    storage = Storage(root)
    storage.require_reachable()
    plan = read_plan(storage)
    console = output_console()
    with DriverLock(storage).acquire(tell=partial(say, notice_console())):
        cleared = forget_failures(storage, plan, derive_state(storage, plan), only=None if failed else name)
    if as_json:
        print_json(console, {"cleared": cleared})
        return
    for one in cleared:
        say(console, f"cleared: {one}")
    say(console, f"{len(cleared)} to be tried again by the next 'sphere run'")
