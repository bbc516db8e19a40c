"""A panel per group of rows with a line per method over edits: what several figures are."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workflows.results.figures.contract import Look
from workflows.results.figures.panels import Row, edits_axis, grouped, legend, method_lines, panels, place_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["LinePanel", "line_panels"]


class LinePanel(NamedTuple):
    """How one panel is called: its title, what its y axis shows, and what a pointer calls a value."""

    title: str
    ylabel: str
    name: str


def line_panels(
    rows: Sequence[Row],
    look: Look,
    *,
    by: Sequence[str],
    panel: Callable[[tuple[Any, ...]], LinePanel],
    scale: "Callable[[Axes, Sequence[Row]], object]" = lambda axis, own: None,
    most: int | None = None,
) -> "Drawing":
    """Draw the rows of each model, stream and value of `by` in a panel of its own, the first `most` of them.

    `panel` receives the values of `by`; `scale` sets the y axis of a panel from its rows.
    """
    groups = dict(list(grouped(rows, "model", "stream", *by).items())[:most])
    figure, axes = panels(len(groups), look)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        called = panel(place[2:])
        method_lines(axis, own, look, name=called.name)
        axis.set_title(place_title(rows, place, called.title))
        scale(axis, own)
        edits_axis([axis], ylabel=called.ylabel)
    legend(figure, rows, look)
    return figure
