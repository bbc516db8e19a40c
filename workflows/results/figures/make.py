"""Make a figure of a sweep: its table, its bytes in a format, its caption."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sphere_core.foundation.user_files import output_errors
from workflows.results.figures.catalogue import figure_named
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look
from workflows.results.figures.style import figure_bytes, style_settings
from workflows.results.formats.arrow_formats import arrow_csv

__all__ = ["MadeFigure", "draw_bytes", "make_figure", "write_figure"]


@dataclass(frozen=True)
class MadeFigure:
    """A figure of one sweep: what it is, its table, and its caption."""

    figure: Figure
    table: pa.Table

    @property
    def caption(self) -> str:
        """Return what the marks are, with n and seeds."""
        return self.figure.caption(self.table)


def make_figure(source: FigureSource, name: str, ask: FigureAsk) -> MadeFigure:
    """Query a figure's table; raises InputError for an unknown figure, and if the sweep lacks what it shows."""
    figure = figure_named(name)
    return MadeFigure(figure, figure.table(source, ask))


def draw_bytes(made: MadeFigure, look: Look, *, style: str, form: str) -> bytes:
    """Draw a figure in one of `style.FORMATS`; equal tables and settings give equal bytes."""
    import matplotlib as mpl

    # Text stays text where a page sets it in its own font, and becomes outlines in a file of its own.
    settings = style_settings(style) | {"svg.fonttype": "none" if look.interactive else "path"}
    with mpl.rc_context(settings):
        return figure_bytes(made.figure.draw(made.table, look), form)


def write_figure(made: MadeFigure, look: Look, out: Path, *, style: str) -> Path:
    """Write a figure and, beside it, its table as CSV; return the CSV's path.

    Raises InputError if a file cannot be written.
    """
    data = draw_bytes(made, look, style=style, form=out.suffix.removeprefix("."))
    beside = out.with_suffix(".csv")
    with output_errors(out):
        out.write_bytes(data)
        beside.write_text(arrow_csv(made.table), encoding="utf-8")
    return beside
