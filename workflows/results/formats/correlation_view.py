"""Correlations and the bound's ratios in every form: for a terminal, Markdown, CSV, JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.formats.output import Answer
from workflows.results.tables.correlation import BoundRow, Correlation
from workflows.results.tables.rank_correlation import Estimate
from workflows.terminal.escape import markdown_text
from workflows.terminal.markdown import markdown_table
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["bound_arrow", "correlations_answer", "correlations_arrow", "correlations_markdown", "estimate_text"]

_NAMES = ("model", "stream", "method")
_COUNTS = {"checkpoints": 5, "trajectories": 6, "collapsed": 4}
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in (*_NAMES, "against", "score")]
    + [(name, pa.int64()) for name in _COUNTS]
    + [
        (f"{name}{part}", pa.string() if part == "_note" else pa.float64())
        for name in ("spearman", "partial")
        for part in ("", "_low", "_high", "_note")
    ]
    + [("published", pa.float64()), ("lag", pa.int64())]
)
_BOUND_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _NAMES]
    + [("edits", pa.int64()), ("protocol", pa.string()), ("n", pa.int64())]
    + [(name, pa.float64()) for name in ("smallest", "median", "largest")]
    + [(name, pa.int64()) for name in ("below_one", "collapsed")]
)

_HEADING = """\
Spearman's ρ over checkpoints, with 95 % bootstrap intervals over trajectories (resampled whole, within their method);
partial ρ: given edit count and |dW|, by ranks.
The unedited model is left out, and so are checkpoints that collapsed, which are counted.
"""
_BOUND_HEADING = """\
Measured change of preserved outputs / its first-order lower bound |HE - HE_0| / s, over sites and
seeds: median (smallest). To first order it is at least 1; far from the unedited weight it may be less (last columns).
"""


def correlations_answer(
    correlated: Sequence[Correlation], bounds: Sequence[BoundRow], *, flat: Literal["correlations", "bound"]
) -> Answer:
    """Return both tables in every form a command gives them in; `flat` names the one that CSV and Parquet hold."""
    return Answer(
        correlations_arrow(correlated) if flat == "correlations" else bound_arrow(bounds),
        [_shown(correlated), *([_shown_bounds(bounds)] if bounds else [])],
        lambda: correlations_markdown(correlated, bounds),
        {"correlations": [asdict(row) for row in correlated], "bound": [asdict(row) for row in bounds]},
        _HEADING.splitlines()[-1:],
    )


def estimate_text(estimate: Estimate, *, short: bool = False) -> str:
    """Return `-0.81 [-0.90, -0.66]`, or `n/a (why)`; `short` leaves the note on a missing interval out."""
    if estimate.value is None:
        return f"n/a ({estimate.note})"
    text = f"{estimate.value:+.2f}"
    if estimate.low is not None and estimate.high is not None:
        return f"{text} [{estimate.low:+.2f}, {estimate.high:+.2f}]"
    return text if short else f"{text} ({estimate.note})"


def correlations_markdown(correlated: Sequence[Correlation], bounds: Sequence[BoundRow]) -> str:
    """Return both tables as Markdown, one part per model and stream."""
    parts = []
    for place in dict.fromkeys((row.model, row.stream) for row in correlated):
        rows = [row for row in correlated if (row.model, row.stream) == place]
        several = len({row.against for row in rows}) > 1
        papers = any(row.published is not None for row in rows)
        head = ["against"] * several + ["score", "method", "ρ", *["published ρ"] * papers, "partial ρ"]
        head += ["checkpoints", "trajectories", "collapsed"]
        lines = [
            [row.against] * several
            + [_score_text(row), row.method, estimate_text(row.spearman), *[_signed(row.published)] * papers]
            + [estimate_text(row.partial)]
            + [str(row.checkpoints), str(row.trajectories), str(row.collapsed)]
            for row in rows
        ]
        title = f"{place[0]}; {place[1]}" + ("" if several else f"; against {rows[0].against}")
        parts.append(f"{markdown_text(title)}\n\n{_HEADING}\n{markdown_table(head, lines)}\n")
        ratios = [row for row in bounds if (row.model, row.stream) == place]
        if ratios:
            parts.append(f"{_BOUND_HEADING}\n{_bound_table(ratios)}\n")
    return "\n".join(parts)


def _bound_table(rows: Sequence[BoundRow]) -> str:
    protocols = list(dict.fromkeys(row.protocol for row in rows))
    head = ["method", "edits", *protocols]
    head += [f"below 1 ({protocol})" for protocol in protocols]
    by_place: dict[tuple[str, int], dict[str, BoundRow]] = {}
    for row in rows:
        by_place.setdefault((row.method, row.edits), {})[row.protocol] = row
    lines = []
    for (method, edits), own in by_place.items():
        cells = [_ratio_text(own[protocol]) if protocol in own else "–" for protocol in protocols]
        below = [f"{own[p].below_one} of {own[p].n}" if p in own else "–" for p in protocols]
        lines.append([method, str(edits), *cells, *below])
    return markdown_table(head, lines)


def _ratio_text(row: BoundRow) -> str:
    if row.median is None or row.smallest is None:
        return "collapsed"
    return f"{row.median:.3g} ({row.smallest:.3g})"


def bound_arrow(bounds: Sequence[BoundRow]) -> pa.Table:
    """Return one row for each method, checkpoint and kind of inputs."""
    return table_of_records([asdict(row) for row in bounds], _BOUND_SCHEMA)


def correlations_arrow(correlated: Sequence[Correlation]) -> pa.Table:
    """Return one row for each correlation: both coefficients with their bounds and notes."""
    return table_of_records([_flat(row) for row in correlated], _SCHEMA)


def _flat(row: Correlation) -> dict[str, Any]:
    record = asdict(row)
    for name in ("spearman", "partial"):
        estimate = record.pop(name)
        record[name] = estimate.pop("value")
        record |= {f"{name}_{part}": value for part, value in estimate.items()}
    return record


def _shown(correlated: Sequence[Correlation]) -> TextTable:
    papers = any(row.published is not None for row in correlated)
    columns = [
        Column("model", shared=True),
        Column("stream", shared=True, prose=True),
        Column("against", shared=True),
        Column("score", prose=True),
        Column("method"),
        Column("ρ", right=True),
        Column("95 %", 1),
        *([Column("published ρ", right=True)] if papers else []),
        Column("partial ρ", right=True),
        Column("95 % (partial)", 2),
        Column("note", 9),
        *(Column(name, place, right=True, shared=True) for name, place in _COUNTS.items()),
    ]
    rows = [
        [
            *(
                row.model,
                row.stream,
                row.against,
                _score_text(row),
                row.method,
                _value(row.spearman),
                _interval(row.spearman),
            ),
            *[_signed(row.published)] * papers,
            *(_value(row.partial), _interval(row.partial), row.spearman.note or row.partial.note),
            *(row.checkpoints, row.trajectories, row.collapsed),
        ]
        for row in correlated
    ]
    return TextTable(columns, rows, "Spearman's ρ over checkpoints; partial ρ: given edits and |dW|")


def _shown_bounds(bounds: Sequence[BoundRow]) -> TextTable:
    names = ("model", "stream", "method", "edits", "inputs", "median", "smallest", "largest", "below 1", "n")
    special = {
        "model": Column("model", shared=True),
        "stream": Column("stream", shared=True, prose=True),
        "largest": Column("largest", 2, right=True),
        "n": Column("n", 1, right=True, shared=True),
    }
    columns = [special.get(name, Column(name, right=name not in ("method", "inputs"))) for name in names]
    rows: list[list[Cell]] = [
        [
            *(row.model, row.stream, row.method, row.edits, row.protocol),
            *(_digits(row.median), _digits(row.smallest), _digits(row.largest), row.below_one, row.n),
        ]
        for row in bounds
    ]
    return TextTable(columns, rows, "measured change of preserved outputs / its lower bound, over sites and seeds")


def _score_text(row: Correlation) -> str:
    return f"{row.score}, {row.lag} edits later" if row.lag else row.score


def _value(estimate: Estimate) -> str:
    return "n/a" if estimate.value is None else f"{estimate.value:+.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _interval(estimate: Estimate) -> str | None:
    if estimate.low is None or estimate.high is None:
        return None
    return f"[{estimate.low:+.2f}, {estimate.high:+.2f}]"


def _digits(value: float | None) -> str:
    return "collapsed" if value is None else f"{value:.3g}"
