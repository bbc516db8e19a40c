"""`sphere plot`: one figure of a sweep, and its data."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from sphere_core.foundation.errors import InputError
from workflows.commands.output_options import JsonOption
from workflows.commands.probe_options import Measure, Role
from workflows.results.figures.catalogue import FIGURES, figure_named
from workflows.results.figures.contract import FigureAsk, FigureSource, Look
from workflows.results.figures.make import make_figure, write_figure
from workflows.results.figures.style import check_figure_path, figure_width, method_looks
from workflows.results.sql.sweep_roots import open_roots
from workflows.terminal.console import output_console, print_json, say
from workflows.terminal.table import Column, TextTable

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere plot runs/quickstart                           what can be drawn
  sphere plot runs/quickstart scores --out scores.pdf   and scores.csv
  sphere plot runs/quickstart energy --out energy.svg --width column
  sphere plot runs/quickstart cohorts --role paraphrase --out lost.png
  sphere plot runs/ablation ablation --x strength --y energy_ratio \\
      --metric efficacy
  sphere plot runs/quickstart all --out figures         every figure, as PDF

The CSV beside a figure holds all that it shows. PDF embeds its fonts. Colour and
marker belong to the method, in every figure of a sweep; --style grey has no colour.
"""
_ALL = "all"


class Form(Enum):
    """How a figure is written."""

    PDF = "pdf"
    SVG = "svg"
    PNG = "png"


@app.command(epilog=_EPILOG)
def plot(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which figure, or 'all'; default: list")] = None,
    out: Annotated[
        Path | None, typer.Option(help="FILE.pdf, .svg or .png; for 'all' a folder; default: NAME.pdf, figures")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="Of the files of 'all'")] = Form.PDF,
    width: Annotated[str, typer.Option(help="column, text, slide, or inches")] = "text",
    style: Annotated[str, typer.Option(help="paper, grey, slides, or a style sheet of matplotlib")] = "paper",
    metric: Annotated[list[str] | None, typer.Option(help="A score, or a norm of a weight; repeatable")] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task of general ability; repeatable")] = None,
    protocol: Annotated[str, typer.Option(help="Protocol of the scores")] = "argmax",
    against: Annotated[str, typer.Option(help="Figure of geometry")] = "he_drift",
    role: Annotated[Role, typer.Option(help="Which probes of the edits")] = Role.REWRITE,
    measure: Annotated[Measure, typer.Option(help="When an answer counts as right")] = Measure.ARGMAX,
    x: Annotated[str, typer.Option("--x", help="Field of the specification across, for 'ablation'")] = "",
    y: Annotated[str, typer.Option("--y", help="Field of the specification upward, for 'ablation'")] = "",
    as_json: JsonOption = False,
) -> None:
    """Draw a figure of a sweep, with its data as CSV beside it."""
    console = output_console()
    (opened,) = open_roots([root])
    if name is None:
        if as_json:
            print_json(console, {"figures": _list().records()})
        else:
            console.print(_list())
        return
    if name != _ALL:
        figure_named(name)
    target = out if out is not None else Path("figures" if name == _ALL else f"{name}.pdf")
    if name != _ALL:
        check_figure_path(target)
    looks = method_looks((one.title for one in opened.plan.trajectories), style=style)
    look = Look(figure_width(width), looks, grey=style == "grey")
    ask = FigureAsk(protocol, role.value, measure.value, tuple(metric or ()), tuple(task or ()), against, x, y)
    with FigureSource.open(opened) as source:
        if name == _ALL:
            figures = _draw_all(source, ask, look, target, style, form.value)
        else:
            figures = iter([_draw(source, name, ask, look, target, style)])
        if as_json:
            print_json(console, {"figures": [one._asdict() for one in figures]})
            return
        for one in figures:
            for line in one.lines(among_others=name == _ALL):
                say(console, line)


class _Drawn(NamedTuple):
    """The files of a figure, or what the sweep lacks for it."""

    name: str
    file: str | None = None
    data: str | None = None
    caption: str | None = None
    lacks: str | None = None

    def lines(self, *, among_others: bool) -> list[str]:
        if among_others:
            return [f"{self.name}: {self.file or self.lacks}"]
        return [f"{self.file}, data in {self.data}", str(self.caption)]


def _draw(source: FigureSource, name: str, ask: FigureAsk, look: Look, target: Path, style: str) -> _Drawn:
    """Draw a figure into a file, with its data beside it."""
    made = make_figure(source, name, ask)
    data = write_figure(made, look, target, style=style)
    return _Drawn(name, str(target), str(data), made.caption)


def _draw_all(
    source: FigureSource, ask: FigureAsk, look: Look, folder: Path, style: str, form: str
) -> Iterator[_Drawn]:
    """Draw every figure that the rows allow into a folder, and name the others with what they lack."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        try:
            yield _draw(source, name, ask, look, folder / f"{name}.{form}", style)
        except InputError as error:
            yield _Drawn(name, lacks=error.what)


def _list() -> TextTable:
    columns = [Column("name"), Column("question", prose=True), Column("repeats", 1, prose=True)]
    figures = [figure_named(name) for name in FIGURES]
    return TextTable(columns, [[one.name, one.title, one.repeats] for one in figures], "figures")
