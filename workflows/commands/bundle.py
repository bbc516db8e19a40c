"""`sphere bundle`: a sweep as one archive."""

from pathlib import Path
from typing import Annotated

import typer

from sphere_core.foundation.storage import Storage
from workflows.results.figures.catalogue import FIGURES, figure_named
from workflows.results.figures.contract import FigureAsk
from workflows.results.layouts.layout import read_layout
from workflows.results.report.chapter import ReportAsk
from workflows.store.plan import read_plan
from workflows.terminal.console import output_console, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere bundle runs/main                            main.tar.gz
  sphere bundle runs/main --out artefact.tar.gz --layout tables/main.yaml
  sphere bundle runs/main --out main --no-details    a folder, no probes

The archive holds the sweep file, the plan, all rows, the environment, tables, figures,
the report, a README that is a data set card, a citation, and digests. Its folder sweep/
is a sweep directory for every command; `datasets.load_dataset` reads the folder itself.
Equal sweep directories give equal bytes.
"""


@app.command(epilog=_EPILOG)
def bundle(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    out: Annotated[Path | None, typer.Option(help="FILE.tar.gz, or a folder; default: NAME.tar.gz")] = None,
    layout: Annotated[Path | None, typer.Option(help="YAML file that lays the main table out")] = None,
    figure: Annotated[list[str] | None, typer.Option(help="Only this figure; repeatable; default: all")] = None,
    protocol: Annotated[str, typer.Option(help="Protocol of the scores in figures")] = "argmax",
    against: Annotated[str, typer.Option(help="Figure of geometry")] = "he_drift",
    tolerance: Annotated[float, typer.Option(min=0, help="Difference from a paper that counts as equal")] = 0.02,
    lost: Annotated[int, typer.Option(min=0, help="How many of the most forgotten edits the report lists")] = 20,
    details: Annotated[
        bool, typer.Option("--details/--no-details", help="Scored probes and documents too: what retention reads")
    ] = True,
) -> None:
    """Put a sweep's rows, tables, figures and provenance into one archive for others to check."""
    from workflows.results.bundle.make import ARCHIVE, BundleAsk, make_bundle

    for name in figure or ():
        figure_named(name)
    storage = Storage(root)
    storage.require_reachable()
    target = out if out is not None else Path(f"{read_plan(storage).name}{ARCHIVE}")
    report = ReportAsk(FigureAsk(protocol, "rewrite", "argmax", against=against), tolerance, lost)
    chosen = read_layout(layout) if layout is not None else None
    ask = BundleAsk(report, details, chosen, tuple(figure) if figure else FIGURES)
    names = make_bundle(root, target, ask)
    say(output_console(), f"{target}: {len(names)} files")
