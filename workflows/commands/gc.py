"""`sphere gc`: remove what nobody needs any more."""

from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sphere_core.foundation.storage import Storage
from workflows.commands.console import output_console
from workflows.store.driver_lock import DriverLock
from workflows.store.garbage import Garbage, collect, find_garbage
from workflows.store.plan import read_plan
from workflows.store.state import derive_state, scan

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere gc runs/quickstart --dry-run     what would go, and how many bytes
  sphere gc runs/quickstart               remove it

Rows are never removed, nor anything that scores still to come or a resumed trajectory need. Which checkpoints stay
whole is the sweep file's `keep`.
"""


@app.command(epilog=_EPILOG)
def gc(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed")] = False,
) -> None:
    """Remove leftovers of killed writers, unfinished checkpoints, and weights the sweep does not keep."""
    storage = Storage(root)
    storage.require_reachable()
    plan = read_plan(storage)
    console = output_console()
    # Nobody may be writing what looks unfinished.
    with DriverLock(storage).acquire(tell=console.print):
        files = scan(storage)
        garbage = find_garbage(storage, plan, derive_state(storage, plan, files), files)
        if not dry_run:
            collect(storage, garbage)
    console.print(_table(garbage, "would be removed" if dry_run else "removed"))


def _table(garbage: list[Garbage], title: str) -> Table:
    total = sum(one.size for one in garbage)
    table = Table(title=f"{title}: {len(garbage)} files, {_bytes(total)}", title_justify="left", box=SIMPLE_HEAD)
    for name in ("what", "files", "size"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for why in dict.fromkeys(one.why for one in garbage):
        sizes = [one.size for one in garbage if one.why == why]
        table.add_row(why, str(len(sizes)), _bytes(sum(sizes)))
    return table


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
