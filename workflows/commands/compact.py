"""`sphere compact`: one row file per finished trajectory, for sweeps of many."""

from typing import Annotated

import typer

from sphere_core.foundation.storage import Storage
from workflows.store.compaction import compact as compact_rows
from workflows.store.plan import read_plan
from workflows.store.state import derive_state, scan
from workflows.terminal.console import output_console, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere compact runs/large
  sphere compact s3://bucket/large

Tables, figures, reports and queries then open one file per finished trajectory
instead of one per checkpoint and evaluator. The row files are kept. The folder
compacted/ is a cache and may be deleted at any time.
"""


@app.command(epilog=_EPILOG)
def compact(root: Annotated[str, typer.Argument(help="The sweep's folder or URL")]) -> None:
    """Put the rows of each finished trajectory into one file; a second call writes nothing."""
    storage = Storage(root)
    storage.require_reachable()
    plan, files = read_plan(storage), scan(storage)
    state = derive_state(storage, plan, files)
    found = compact_rows(storage, plan, state, files)
    open_ones = sum(not one.is_finished for one in state.trajectories)
    say(
        output_console(),
        f"{found.written} trajectories compacted ({found.rows} rows), {found.kept} were already, "
        f"{open_ones} not finished, {found.removed} outdated files removed",
    )
