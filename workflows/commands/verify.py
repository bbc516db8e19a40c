"""`sphere verify`: check every file of a sweep, and remove what is damaged so that a run makes it again."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from sphere_core.foundation.lazy import load_object
from sphere_core.foundation.storage import Storage
from workflows.commands.output_options import JsonOption
from workflows.store.driver_lock import DriverLock
from workflows.store.verification import Damage, repair, verify
from workflows.terminal.console import notice_console, output_console, print_json, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere verify runs/quickstart            exit code 1 if a file is damaged
  sphere verify runs/quickstart --repair   remove them; then run again

Rows, checkpoints and second moments are checked by their digests, JSON records for their form.
"""


@app.command("verify", epilog=_EPILOG)
def verify_command(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    remove: Annotated[bool, typer.Option("--repair", help="Remove damaged files and what depends on them")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every file of a sweep and name those that are damaged."""
    storage = Storage(root)
    storage.require_reachable()
    console = output_console()
    # What is removed must not be what a driver has just written.
    lock = DriverLock(storage).acquire(tell=partial(say, notice_console())) if remove else nullcontext()
    with lock:
        files, damaged = _checked(storage)
        for one in damaged if remove else ():
            repair(storage, one)
    if as_json:
        found = [{"path": one.path, "why": one.why, "remedy": one.remedy, "removed": one.removes} for one in damaged]
        print_json(console, {"files": files, "repaired": remove, "damaged": found})
    else:
        for one in damaged:
            say(console, f"{one.path}: {one.why}")
            done = "removed; the next 'sphere run' makes it again"
            say(console, f"  {done if remove and one.removes else one.remedy}")
        say(console, f"{files} files, {len(damaged)} damaged")
    left = [one for one in damaged if not (remove and one.removes)]
    raise typer.Exit(1 if left else 0)


def _checked(storage: Storage) -> tuple[int, list[Damage]]:
    """Return how many files there are and the damaged ones, showing how far it is on a terminal."""
    seen = 0
    with Progress(console=notice_console(), transient=True) as progress:
        bar = progress.add_task("files", total=None)

        def on_file(done: int, total: int) -> None:
            nonlocal seen
            seen = total
            progress.update(bar, completed=done, total=total)

        damaged = list(verify(storage, of_moments=_of_moments, on_file=on_file))
    return seen, damaged


def _of_moments(path: Path) -> list[str]:
    found: list[str] = load_object("workflows.moments.check:file_faults")(path)
    return found
