"""The look of every figure, and writing one. matplotlib is loaded when a figure is made, not before.

Colours are those of Okabe and Ito (2008), which people of every colour vision can distinguish; every series also has a
marker of its own, for print in black and white.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphere_core.foundation.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "STYLE", "check_figure_path", "figure_bytes", "grid", "log_ticks", "series_look"]

FORMATS = ("svg", "png", "pdf")
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
}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def series_look(place: int) -> dict[str, Any]:
    """Return colour and marker of the series at a place; after eight colours they come with other markers."""
    turn = place // len(_COLOURS)
    return {"color": _COLOURS[place % len(_COLOURS)], "marker": _MARKERS[(place + turn) % len(_MARKERS)]}


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
    sink = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[form]
    figure.savefig(sink, format=form, metadata=stamp)
    return sink.getvalue()
