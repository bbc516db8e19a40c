"""Which titles and axis labels of a figure are cut off or cover one another."""

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

# What may stick out, or be shared by two boxes, at the edges of letters.
_SLACK = 0.01


def crowded_texts(figure: Figure) -> list[str]:
    """Lay a figure out and return the texts that leave it, and pairs of texts that cover one another."""
    figure.draw_without_rendering()
    paper = figure.bbox.expanded(1 + _SLACK, 1 + _SLACK)
    boxes = [(text.get_text(), text.get_window_extent()) for axis in figure.axes for text in _labels(axis)]
    found = [name for name, box in boxes if not (paper.contains(*box.min) and paper.contains(*box.max))]
    return found + [
        f"{one} / {other}"
        for (one, box), (other, second) in itertools.combinations(boxes, 2)
        if box.shrunk(1 - _SLACK, 1 - _SLACK).overlaps(second.shrunk(1 - _SLACK, 1 - _SLACK))
    ]


def _labels(axis: Axes) -> list[Text]:
    places = [axis.xaxis.label, axis.yaxis.label]
    title = axis.get_title("left")
    titles = [one for one in axis.get_children() if isinstance(one, Text) and one.get_text() == title]
    return [text for text in (*titles, *places) if text.get_text()]
