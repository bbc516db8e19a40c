"""`sphere gc`: remove files that nothing requires any more."""

import contextlib
from functools import partial
from typing import Annotated

import typer

from sphere_core.foundation.storage import Storage
from workflows.commands.output_options import JsonOption
from workflows.store.driver_lock import DriverLock
from workflows.store.garbage import Garbage, collect, find_garbage
from workflows.store.plan import read_plan
from workflows.store.root_owner import earlier_line
from workflows.store.state import derive_state, scan
from workflows.terminal.console import notice_console, output_console, print_json, say
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere gc runs/quickstart --dry-run   what would go, and how many bytes
  sphere gc runs/quickstart             remove it

With --dry-run nothing is written, so that it can be used beside a run. Rows are never removed,
nor anything that scores still to come or a resumed trajectory need. Trajectories of an earlier plan are kept too; their
number and folders are shown. Which checkpoints stay whole is the sweep file's `keep`.
"""


@app.command(epilog=_EPILOG)
def gc(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove leftovers of killed writers, unfinished checkpoints, and weights the sweep does not keep."""
    storage = Storage(root)
    storage.require_reachable()
    plan = read_plan(storage)
    console = output_console()
    # No driver may be writing what looks unfinished. A look writes nothing, not even a lock, and works beside a driver.
    lock = DriverLock(storage).acquire(tell=partial(say, notice_console())) if not dry_run else contextlib.nullcontext()
    with lock:
        files = scan(storage)
        state = derive_state(storage, plan, files)
        garbage = find_garbage(storage, plan, state, files)
        if not dry_run:
            collect(storage, garbage)
    if as_json:
        found = [{"path": one.path, "why": one.why, "bytes": one.size} for one in garbage]
        print_json(console, {"removed": not dry_run, "files": found, "earlier_trajectories": list(state.earlier)})
        return
    console.print(_table(garbage, "would be removed" if dry_run else "removed"))
    if state.earlier:
        say(console, earlier_line(state.earlier))


def _table(garbage: list[Garbage], title: str) -> TextTable:
    total = sum(one.size for one in garbage)
    rows: list[list[Cell]] = []
    for why in dict.fromkeys(one.why for one in garbage):
        sizes = [one.size for one in garbage if one.why == why]
        rows.append([why, len(sizes), _bytes(sum(sizes))])
    columns = [Column("what", prose=True), Column("files", right=True), Column("size", right=True)]
    return TextTable(columns, rows, f"{title}: {len(garbage)} files, {_bytes(total)}")


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
