"""The panels and marks that figures share: a grid of panels, lines over edits with their seeds, dots with intervals."""

import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from workflows.results.figures.contract import Look
from workflows.results.figures.style import INK
from workflows.results.sql.connect import UNEDITED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Row",
    "collapses",
    "dots",
    "edits_axis",
    "first_column",
    "grouped",
    "legend",
    "method_lines",
    "panels",
    "place_title",
    "seeds_caption",
    "tag",
]

# Above this number of seeds a line each would be a grey field: the band alone is drawn.
_MOST_SEEDS = 30
_LEAST_FOR_SD = 3

Row = dict[str, Any]


# A stream in words: data set, order, edits, size of batches.
_STREAM_PARTS = re.compile(", | in (?=batches of )")
# Characters that fit above one of three panels beside each other.
_TITLE_WIDTH = 24


def panels(
    count: int, look: Look, *, across: int = 3, height: float = 2.0, share_y: bool = False
) -> "tuple[Figure, list[Axes]]":
    """Return a figure of the look's width and its axes, row by row; narrow figures have fewer columns."""
    from matplotlib.figure import Figure

    columns = max(1, min(across, count, round(look.width / 2.2)))
    rows = -(-count // columns)
    columns = -(-count // rows)
    figure = Figure(figsize=(look.width, rows * height + 0.45), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=share_y).flat)
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def first_column(axis: "Axes") -> bool:
    """Return whether a panel is the leftmost of its row, where labels are."""
    place = axis.get_subplotspec()
    return place is None or place.colspan.start == 0


def grouped(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Return rows by the values of some columns, in the order of their first row."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def place_title(rows: Sequence[Row], place: tuple[Any, ...], title: str) -> str:
    """Return a panel's title, above it what tells its model and stream from the others of the figure."""
    models, streams = (list(dict.fromkeys(str(row[name]) for row in rows)) for name in ("model", "stream"))
    parts = [str(place[0])] if len(models) > 1 else []
    if len(streams) > 1:
        split = [_STREAM_PARTS.split(stream) for stream in streams]
        own = _STREAM_PARTS.split(str(place[1]))
        same_form = len({len(found) for found in split}) == 1
        parts += [word for word, *others in zip(own, *split, strict=False) if not same_form or len(set(others)) > 1]
    return "\n".join([*textwrap.wrap(", ".join(parts), _TITLE_WIDTH), title])


def tag(artist: Any, look: Look, method: str, texts: Sequence[str] = ()) -> None:
    """Name the method of an artist and the values of its marks, as its id in the SVG, if a page is to hold it."""
    if look.interactive:
        artist.set_gid(json.dumps({"method": method, "texts": list(texts)}))


def method_lines(
    axis: "Axes",
    rows: Sequence[Row],
    look: Look,
    *,
    y: str = "value",
    name: str = "",
    x: str = "edits",
) -> None:
    """Draw each method's mean over seeds with a band (sd from three seeds on, else the range), each seed faint.

    A value that is missing because the answers collapsed is a cross on the lower edge. The unedited model, which has no
    edits, is a dotted line across.
    """
    for (method,), own in grouped(rows, "method").items():
        look_of = look.of(method)
        colour = look_of["color"]
        if method == UNEDITED:
            if own[0]["mean"] is not None:
                line = axis.axhline(own[0]["mean"], color=INK, linewidth=0.8, linestyle=":")
                tag(line, look, method, [f"{method}\n{name} {own[0]['mean']:.4g}"])
            continue
        seeds = grouped(own, "seed")
        if 1 < len(seeds) <= _MOST_SEEDS:
            for (seed,), lives in seeds.items():
                points = [(row[x], row[y]) for row in lives if row[y] is not None]
                faint = axis.plot(*_xy(points), color=colour, alpha=0.25, linewidth=0.6)[0]
                tag(faint, look, method, [f"{method}, seed {seed}"])
        means = list({row[x]: row for row in own if row["mean"] is not None}.values())
        low, high = zip(*(_band(row) for row in means), strict=True) if means else ((), ())
        if any(row["seeds"] > 1 for row in means):
            band = axis.fill_between([row[x] for row in means], low, high, color=colour, alpha=0.13, linewidth=0)
            tag(band, look, method)
        line = axis.plot(*_xy([(row[x], row["mean"]) for row in means]), mew=0, **look_of)[0]
        tag(line, look, method, [_hover(method, name, row, x) for row in means])
        _published(axis, own, look, method, name, x)
        collapses(axis, [row[x] for row in own if row["status"] == "collapsed"], look, method)


def collapses(axis: "Axes", where: Sequence[float], look: Look, method: str) -> None:
    """Mark values that are missing because the answers collapsed: crosses on the lower edge, never numbers."""
    if where:
        edge, colour = axis.get_xaxis_transform(), look.of(method)["color"]
        crosses = axis.plot(where, [0.0] * len(where), "x", color=colour, transform=edge, clip_on=False)[0]
        # Drawn outside the axes, they would leave the layout no room for them.
        crosses.set_in_layout(False)
        tag(crosses, look, method, [f"{method}\n{value:g}: collapsed" for value in where])


def dots(
    axis: "Axes",
    rows: Sequence[Row],
    look: Look,
    *,
    label: Callable[[Row], str],
    order: Sequence[str],
    name: str = "",
    below: Callable[[Row], float] = lambda row: 0.0,
) -> None:
    """Draw one line per row, in the places of `order` from the top: its mean as a mark, its band as a bar.

    Panels of one figure share their labels, so that each has a place for every label, drawn in it or not. `below` is
    how far from the middle of its place a row is, for several rows of one label.
    """
    for row in rows:
        place = order.index(label(row)) + below(row)
        look_of = look.of(row["method"]) | {"linestyle": "none"}
        if row["mean"] is None:
            edge, colour = axis.get_yaxis_transform(), look_of["color"]
            collapsed = axis.plot([0.0], [place], "x", color=colour, transform=edge, clip_on=False)[0]
            collapsed.set_in_layout(False)
            tag(collapsed, look, row["method"], [f"{label(row)}\n{name} collapsed"])
            continue
        low, high = _band(row)
        if high > low:
            tag(axis.plot([low, high], [place, place], color=look_of["color"], linewidth=1.2)[0], look, row["method"])
        mark = axis.plot([row["mean"]], [place], mew=0, **look_of)[0]
        tag(mark, look, row["method"], [_hover(label(row), name, row, None)])
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")


def edits_axis(axes: "Iterable[Axes]", *, ylabel: str = "") -> None:
    """Label the axes of panels over edits, from zero, with few whole numbers."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_xlim(left=0)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
        axis.set_xlabel("edits")
        if ylabel:
            axis.set_ylabel(ylabel)


def legend(figure: "Figure", rows: Iterable[Row], look: Look, *, columns: int = 4) -> None:
    """Put the methods of the rows above the panels; the unedited model is the dotted line."""
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(row["method"] for row in rows))
    drawn = [Line2D([], [], label=name, mew=0, **look.of(name)) for name in names if name != UNEDITED]
    if UNEDITED in names:
        drawn.append(Line2D([], [], color=INK, linewidth=0.8, linestyle=":", label="unedited"))
    widest = max((len(str(handle.get_label())) for handle in drawn), default=1)
    fitting = max(1, int(look.width * 10 / (widest + 8)))
    shown = figure.legend(handles=drawn, loc="outside upper left", ncols=max(1, min(len(drawn), columns, fitting)))
    for handle, text in zip(shown.legend_handles, shown.get_texts(), strict=True):
        for artist in (handle, text):
            tag(artist, look, UNEDITED if text.get_text() == "unedited" else text.get_text())


def seeds_caption(rows: Sequence[Row]) -> str:
    """Return what a caption says of seeds, the band and collapsed values."""
    counts = sorted({row["seeds"] for row in rows if row["method"] != UNEDITED})
    text = (
        "one seed" if counts == [1] else f"mean over {'-'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"
    )
    if counts[-1] > 1:
        band = "sd" if counts[0] >= _LEAST_FOR_SD else "range"
        text += f", each seed faint, band: {band} over seeds"
    if any(row["status"] == "collapsed" for row in rows):
        text += "; crosses: collapsed, without a number"
    if any(row.get("published") is not None for row in rows):
        text += "; hollow: published"
    return text


def _published(axis: "Axes", rows: Sequence[Row], look: Look, method: str, name: str, x: str) -> None:
    """Draw a paper's numbers as hollow marks."""
    known = list({row[x]: row for row in rows if row.get("published") is not None}.values())
    if known:
        hollow = look.of(method) | {"linestyle": "none", "mfc": "none", "markersize": 7}
        marks = axis.plot([row[x] for row in known], [row["published"] for row in known], **hollow)[0]
        tag(
            marks,
            look,
            method,
            [f"{method}, published\n{name} {row['published']:.4g} at {row[x]} {x}" for row in known],
        )


def _band(row: Row) -> tuple[float, float]:
    if row["seeds"] >= _LEAST_FOR_SD and row["sd"] is not None:
        return row["mean"] - row["sd"], row["mean"] + row["sd"]
    return row["smallest"], row["largest"]


def _hover(method: str, name: str, row: Row, x: str | None) -> str:
    spread = f" ± {row['sd']:.2g}" if row.get("sd") is not None else ""
    where = f" at {row[x]:g} {x}" if x else ""
    return f"{method}\n{name} {row['mean']:.4g}{spread}{where}\n{row['seeds']} seeds"


def _xy(points: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [point[0] for point in points], [point[1] for point in points]
