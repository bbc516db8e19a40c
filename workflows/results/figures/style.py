"""The look of every figure, and writing one. matplotlib is loaded when a figure is made, not before.

Colours are those of Okabe and Ito (2008), which people of every colour vision can distinguish; every series also has a
marker and a line style of its own, for print in black and white.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphere_core.foundation.errors import InputError, unknown_name
from workflows.terminal.escape import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FORMATS",
    "INK",
    "STYLE",
    "STYLES",
    "WIDTHS",
    "check_figure_path",
    "figure_bytes",
    "figure_width",
    "grid",
    "line_look",
    "log_ticks",
    "method_looks",
    "series_look",
    "style_settings",
]

FORMATS = ("svg", "png", "pdf")
# Inches: one column and the text width of a paper of two columns, and a slide.
WIDTHS = {"column": 3.25, "text": 6.75, "slide": 10.0}
INK, PAPER_GREY = "#010203", "#e6e6e6"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 0.8,
    "lines.markersize": 4,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    # Equal figures are equal bytes.
    "svg.hashsalt": "sphere",
    # Fonts travel with the file: TrueType in PDF, which text editors and publishers accept.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
# What each style changes; `grey` also takes the colour from methods, other series and heat maps.
STYLES: dict[str, dict[Any, Any]] = {
    "paper": {"font.size": 8, "axes.titlesize": 8, "legend.fontsize": 8, "lines.linewidth": 1.1},
    "grey": {"font.size": 8, "axes.titlesize": 8, "legend.fontsize": 8, "lines.linewidth": 1.1},
    "slides": {
        "font.size": 13,
        "axes.titlesize": 13,
        "legend.fontsize": 12,
        "lines.linewidth": 2,
        "lines.markersize": 7,
    },
    "page": {
        "font.size": 9,
        "axes.titlesize": 9,
        "legend.fontsize": 9,
        "lines.linewidth": 1.3,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    },
}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
_GREYS = ("#000000", "#6e6e6e", "#3c3c3c", "#969696")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))


def series_look(place: int, *, grey: bool = False) -> dict[str, Any]:
    """Return colour and marker of the series at a place; after eight colours they come with other markers."""
    turn, colours = place // len(_COLOURS), _GREYS if grey else _COLOURS
    return {"color": colours[place % len(colours)], "marker": _MARKERS[(place + turn) % len(_MARKERS)]}


def line_look(place: int, *, grey: bool = False) -> dict[str, Any]:
    """Return colour, marker and line style of the line at a place."""
    return series_look(place, grey=grey) | {"linestyle": _LINES[place % len(_LINES)]}


def method_looks(methods: Iterable[str], *, style: str) -> dict[str, dict[str, Any]]:
    """Return colour, marker and line style of every method by its place: equal in all figures of a sweep."""
    return {method: line_look(place, grey=style == "grey") for place, method in enumerate(dict.fromkeys(methods))}


def style_settings(name: str) -> dict[Any, Any]:
    """Return the settings of a style: one of STYLES, or a style sheet of matplotlib by name or file.

    Raises InputError for a name that is neither.
    """
    if name in STYLES:
        return STYLE | dict.fromkeys(_INKED, INK) | STYLES[name]
    import matplotlib.style as sheets

    try:
        if Path(name).is_file():
            import matplotlib as mpl

            return STYLE | dict(mpl.rc_params_from_file(name, use_default_template=False))
        return STYLE | dict(sheets.library[name])
    except KeyError:
        raise unknown_name("style", name, [*STYLES, *sheets.library], where="--style") from None


def figure_width(text: str) -> float:
    """Return a width in inches: one of WIDTHS, or a number of inches from 2 to 40.

    Raises InputError for anything else.
    """
    if text in WIDTHS:
        return WIDTHS[text]
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 2 <= width <= 40:
        raise InputError(
            f"'{text}' is not a width of a figure",
            where="--width",
            remedy=f"give {', '.join(WIDTHS)}, or a number of inches from 2 to 40",
        )
    return width


def grid(panels: int, *, columns: int = 3, width: float = 3.5, height: float = 2.9) -> "tuple[Figure, list[Axes]]":
    """Return a figure and its axes, in rows of at most `columns` panels; sizes in inches per panel. Requires STYLE."""
    from matplotlib.figure import Figure

    across = min(columns, panels)
    down = -(-panels // across)
    # Room for a legend above the panels.
    figure = Figure(figsize=(across * width, down * height + 0.5), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for unused in axes[panels:]:
        unused.remove()
    return figure, axes[:panels]


def log_ticks(axis: Any) -> None:
    """Label a logarithmic axis (`axes.xaxis`) with plain numbers, at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def check_figure_path(path: Path) -> None:
    """Raise InputError unless the name ends in a format that can be written."""
    if path.suffix.removeprefix(".") not in FORMATS:
        raise InputError(
            f"a figure cannot be written as '{path.suffix}'",
            where=str(path),
            remedy=f"end the name in {', '.join('.' + name for name in FORMATS)}",
        )


def figure_bytes(figure: "Figure", form: str) -> bytes:
    """Return a figure in one of FORMATS, without the time of day in it."""
    _texts_as_they_are(figure)
    sink = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[form]
    figure.savefig(sink, format=form, metadata=stamp)
    return sink.getvalue()


def _texts_as_they_are(figure: "Figure") -> None:
    """Have names of users shown as they are: a dollar sign would begin mathematics, which may not even parse."""
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    of_ticks: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            of_ticks |= {label for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)}
            _name_ticks(axis.get_major_formatter())
            _name_ticks(axis.get_minor_formatter())
    # Ticks take their labels from the formatters; those of logarithmic axes are mathematics of matplotlib's own.
    for text in texts:
        if text in of_ticks:
            text.set_text("")
        else:
            text.set_parse_math(False)
            text.set_text("\n".join(map(one_line, text.get_text().split("\n"))))


def _name_ticks(formatter: Any) -> None:
    """Have a formatter of names, given one by one or by a function, show them as they are."""
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    def shown(name: object) -> str:
        return one_line(str(name)).replace("$", r"\$")

    if isinstance(formatter, FixedFormatter):
        formatter.seq = [shown(name) for name in formatter.seq]
    elif isinstance(formatter, FuncFormatter):
        named = formatter.func
        formatter.func = lambda *place: shown(named(*place))
