"""`sphere report`: sweeps as one HTML file."""

import time
from pathlib import Path
from typing import Annotated

import typer

from sphere_core.foundation.user_files import replace_text
from workflows.results.figures.contract import FigureAsk
from workflows.results.report.chapter import ReportAsk
from workflows.results.report.page import report_page
from workflows.results.sql.sweep_roots import open_roots
from workflows.terminal.console import output_console, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere report runs/quickstart --out report.html
  sphere report runs/a runs/b --out both.html       a chapter each
  sphere report runs/long --out long.html --watch   again every minute

The file needs no network and no other file. It answers, in this order: did it work,
when did it break, which edits were lost, does geometry show it earlier, what did each
part add, does it reproduce the paper, where does it come from.
"""


@app.command(epilog=_EPILOG)
def report(
    roots: Annotated[list[str], typer.Argument(metavar="ROOT", help="Folders or URLs of sweeps")],
    out: Annotated[Path, typer.Option(help="The HTML file to write")] = Path("report.html"),
    watch: Annotated[bool, typer.Option("--watch", help="Write it again until every sweep is complete")] = False,
    every: Annotated[int, typer.Option(min=1, help="Seconds between two writes under --watch")] = 60,
    protocol: Annotated[str, typer.Option(help="Protocol of the scores in figures")] = "argmax",
    against: Annotated[str, typer.Option(help="Figure of geometry")] = "he_drift",
    tolerance: Annotated[float, typer.Option(min=0, help="Difference from a paper that counts as equal")] = 0.02,
    lost: Annotated[int, typer.Option(min=0, help="How many of the most forgotten edits are listed")] = 20,
) -> None:
    """Write a report of one or more sweeps: tables, figures, lost edits, provenance, in one HTML file."""
    console = output_console()
    ask = ReportAsk(FigureAsk(protocol, "rewrite", "argmax", against=against), tolerance, lost)
    while True:
        # A sweep that runs grows: each page is of its files as they are then.
        opened = [one for root in roots for one in open_roots([root])]
        page, complete = report_page(opened, ask, refresh=every if watch else None, shown=roots)
        replace_text(out, page)
        say(console, f"{out}: {len(page.encode()) / 1e6:.2f} MB{'' if complete else ', not complete yet'}")
        if complete or not watch:
            return
        time.sleep(every)
