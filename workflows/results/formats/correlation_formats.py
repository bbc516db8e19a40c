"""Writing correlations and the bound's ratios as Markdown, CSV or JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from workflows.results.formats.table_formats import markdown_pipes
from workflows.results.tables.correlation import BoundRow, Correlation
from workflows.results.tables.rank_correlation import Estimate

__all__ = ["bound_csv", "correlations_csv", "correlations_json", "correlations_markdown", "estimate_text"]

_HEADING = """\
Spearman's ρ over checkpoints, with 95 % bootstrap intervals over trajectories (resampled whole, within their method);
partial ρ: given edit count and |dW|, by ranks.
The unedited model is left out, and so are checkpoints that collapsed, which are counted.
"""
_BOUND_HEADING = """\
Measured change of preserved outputs / its first-order lower bound |HE - HE_0| / s, over sites and
seeds: median (smallest). To first order it is at least 1; far from the unedited weight it may be less (last columns).
"""


def estimate_text(estimate: Estimate, *, short: bool = False) -> str:
    """Return `-0.81 [-0.90, -0.66]`, or `n/a (why)`; `short` leaves the note on a missing interval out."""
    if estimate.value is None:
        return f"n/a ({estimate.note})"
    text = f"{estimate.value:+.2f}"
    if estimate.low is not None and estimate.high is not None:
        return f"{text} [{estimate.low:+.2f}, {estimate.high:+.2f}]"
    return text if short else f"{text} ({estimate.note})"


def correlations_markdown(correlated: Sequence[Correlation], bounds: Sequence[BoundRow]) -> str:
    """Return both tables as Markdown, one part a model and stream."""
    parts = []
    for place in dict.fromkeys((row.model, row.stream) for row in correlated):
        rows = [row for row in correlated if (row.model, row.stream) == place]
        several = len({row.against for row in rows}) > 1
        head = ["against"] * several + ["score", "method", "ρ", "partial ρ", "checkpoints", "trajectories", "collapsed"]
        lines = [
            [row.against] * several
            + [row.score, row.method, estimate_text(row.spearman), estimate_text(row.partial)]
            + [str(row.checkpoints), str(row.trajectories), str(row.collapsed)]
            for row in rows
        ]
        title = f"{place[0]}; {place[1]}" + ("" if several else f"; against {rows[0].against}")
        parts.append(f"{title}\n\n{_HEADING}\n{markdown_pipes(head, lines)}\n")
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
    return markdown_pipes(head, lines)


def _ratio_text(row: BoundRow) -> str:
    if row.median is None or row.smallest is None:
        return "collapsed"
    return f"{row.median:.3g} ({row.smallest:.3g})"


def correlations_csv(correlated: Sequence[Correlation]) -> str:
    """Return one line a correlation: both coefficients with their bounds and notes."""
    return _csv([_flat(row) for row in correlated])


def bound_csv(bounds: Sequence[BoundRow]) -> str:
    """Return one line a method, checkpoint and kind of inputs."""
    return _csv([asdict(row) for row in bounds])


def correlations_json(correlated: Sequence[Correlation], bounds: Sequence[BoundRow]) -> str:
    """Return both tables as one JSON object."""
    record = {"correlations": [asdict(row) for row in correlated], "bound": [asdict(row) for row in bounds]}
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def _flat(row: Correlation) -> dict[str, Any]:
    record = asdict(row)
    for name in ("spearman", "partial"):
        estimate = record.pop(name)
        record[name] = estimate.pop("value")
        record |= {f"{name}_{part}": value for part, value in estimate.items()}
    return record


def _csv(records: list[dict[str, Any]]) -> str:
    sink = io.StringIO()
    if records:
        writer = csv.DictWriter(sink, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return sink.getvalue()
