"""Energy drift above the scores, with the checkpoint of collapse."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import edits_axis, grouped, place_title, tag
from workflows.results.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

# Above this the axis of the drift is logarithmic, below it linear: methods differ by orders of magnitude.
_LINEAR = 1e-3
# More faint lines than this, one per site and seed, would be a grey field.
_MOST_LINES = 120
_METRICS = ("efficacy", "generalization", "specificity")
# Shade, marker and line of the scores in a panel: greys, since a colour is a method everywhere else.
_SCORES = ((INK, "o", "-"), ("#6e6e6f", "s", "--"), ("#9a9a9b", "^", "-."), ("#6e6e6f", "D", ":"))


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    metrics = list(ask.metrics or _METRICS)[: len(_SCORES)]
    asked = {"metrics": metrics, "protocol": ask.protocol, "against": ask.against}
    found = source.ask("energy", **asked, general=False)
    if "score" not in found["strip"].to_pylist():
        # Where edits are not scored (or none is written), general ability is.
        found = source.ask("energy", **asked, general=True)
    remedy = "add 'geometry: {}' to the sweep's evaluators, and run it"
    # A pattern and not `equal`, whose literal has pyarrow import pandas.
    geometry = found.filter(pc.starts_with(found["strip"], pattern="geometry"))
    needs(geometry, f"row of geometry named {ask.against}", remedy, where=source.storage.uri)
    return found


def _draw(table: pa.Table, look: Look) -> "Drawing":
    from matplotlib.figure import Figure as Sheet

    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "method")
    across = max(1, min(len(groups), round(look.width / 1.7)))
    down = -(-len(groups) // across)
    across = -(-len(groups) // down)
    sheet = Sheet(figsize=(look.width, down * 2.9 + 0.4), layout="constrained")
    blocks = sheet.subfigures(down, 1, squeeze=False)[:, 0]
    pairs: list[tuple[Axes, Axes]] = []
    for block in blocks:
        upper, lower = block.subplots(2, across, squeeze=False, sharex="col", sharey="row", height_ratios=(1, 1.2))
        pairs += zip(upper, lower, strict=True)
    low, high = _limits(rows)
    scale = {"value": "symlog", "linthresh": _LINEAR} if max(-low, high) > _LINEAR else {"value": "linear"}
    for place, (group, own) in enumerate(groups.items()):
        _strips(pairs[place], group[2], own, look, first=place % across == 0)
        pairs[place][0].set_yscale(**scale)
        pairs[place][0].set_ylim(low, high)
        pairs[place][0].set_title(place_title(rows, group, group[2]))
    for unused in pairs[len(groups) :]:
        for axis in unused:
            axis.remove()
    _score_legend(sheet, rows)
    return sheet


def _strips(pair: "tuple[Axes, Axes]", method: str, own: Sequence[Any], look: Look, *, first: bool) -> None:
    upper, lower = pair
    energy = [row for row in own if row["strip"] == "geometry"]
    colour = look.of(method)["color"]
    lines = {key: lives for key, lives in grouped(energy, "seed", "site").items() if key[1] is not None}
    if len(lines) <= _MOST_LINES:
        for (_, site), lives in lines.items():
            known = [row for row in lives if row["value"] is not None]
            line = upper.plot([r["edits"] for r in known], [r["value"] for r in known], color=colour, alpha=0.3, lw=0.6)
            tag(line[0], look, method, [f"{method}\n{site}"])
    whole = list({r["edits"]: r for r in energy if r["site"] is None and r["mean"] is not None}.values())
    texts = [f"{method}\n{r['metric']} {r['mean']:.4g} at {r['edits']} edits" for r in whole]
    line = upper.plot([r["edits"] for r in whole], [r["mean"] for r in whole], mew=0, **look.of(method))
    tag(line[0], look, method, texts)
    scored = [row for row in own if row["strip"] == "score"]
    for ((metric,), lives), (shade, marker, dashes) in zip(grouped(scored, "metric").items(), _SCORES, strict=False):
        known = list({r["edits"]: r for r in lives if r["mean"] is not None}.values())
        drawn = lower.plot(
            [r["edits"] for r in known], [r["mean"] for r in known], color=shade, marker=marker, ls=dashes, mew=0
        )
        tag(drawn[0], look, method, [f"{method}\n{metric} {r['mean']:.4g} at {r['edits']} edits" for r in known])
    lower.set_ylim(-0.02, 1.02)
    lost = [row["edits"] for row in own if row["status"] == "collapsed"]
    if lost:
        for axis in pair:
            axis.axvline(min(lost), color=INK, linewidth=0.8, linestyle="--")
        late = min(lost) > max(row["edits"] for row in own) / 2
        side = "right" if late else "left"
        lower.text(min(lost), 0.98, " collapsed ", fontsize="small", va="top", ha=side)
    edits_axis([lower])
    if first:
        upper.set_ylabel(energy[0]["metric"].replace("_", " "))
        lower.set_ylabel(scored[0]["protocol"] if scored else "")


def _limits(rows: Sequence[Any]) -> tuple[float, float]:
    """Return one range of the drift for all methods, zero inside; that of small drifts is their own."""
    values = [row["value"] for row in rows if row["strip"] == "geometry" and row["value"] is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    return min(1.3 * low, 0.0), 1.3 * high if high > 0 else _LINEAR


def _score_legend(sheet: "Drawing", rows: Sequence[Any]) -> None:
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(row["metric"] for row in rows if row["strip"] == "score"))
    shown = [
        Line2D([], [], color=colour, marker=marker, ls=dashes, mew=0, label=name)
        for name, (colour, marker, dashes) in zip(names, _SCORES, strict=False)
    ]
    if shown:
        sheet.legend(handles=shown, loc="outside upper left", ncols=len(shown))


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    metric = next(row["metric"] for row in rows if row["strip"] == "geometry")
    collapse = " Dashed: the first collapsed checkpoint." if any(r["status"] == "collapsed" for r in rows) else ""
    return (
        f"Above: {metric}, mean over sites and seeds (faint: every site and seed, if they are at most {_MOST_LINES}). "
        f"Below: the scores, mean over seeds.{collapse}"
    )


FIGURE = Figure(
    "energy",
    "When does the energy move, and when do the scores fall?",
    "SPHERE, Figs. 2 and 3",
    "geometry",
    _table,
    _draw,
    _caption,
)
