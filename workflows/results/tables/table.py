"""The results table: means and spread over seeds, from row files alone.

Each column is one metric under one protocol; protocols never share a column. Where an answer of a model
was not a number, or its answers were mostly ties, the cell says `collapsed` and holds no mean: chance level is
not a score. Where a scorer raised it says `failed`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workflows.results.sql.connect import UNEDITED, connect_roots, query, stream_name
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.store.identifiers import prefix_length
from workflows.store.plan import SweepPlan
from workflows.store.state import TrajectoryState
from workflows.terminal.numbers import Measured, number_texts

__all__ = [
    "PROTOCOLS",
    "Cell",
    "ResultsTable",
    "TableRow",
    "column_group",
    "column_name",
    "column_order",
    "results_table",
]

_EDIT_METRICS = (
    *("efficacy", "generalization", "specificity", "portability", "multi_hop", "agreement"),
    *("score", "score_arithmetic", "fluency", "consistency"),
)
# Protocols that come first; every other one follows by its name, each in its own group.
PROTOCOLS = ("argmax", "probability", "token")
_MODEL_GROUP = "model"
_GEOMETRY = {"he_drift": "HE drift", "delta_norm_relative": "|dW|/|W|"}


@dataclass(frozen=True)
class Cell:
    """One metric of one row: the mean over `n` seeds and their standard deviation, or how many collapsed or failed.

    `mean` and `sd` are None unless every seed has a number: a mean over those that are left would flatter the method.
    """

    mean: float | None
    sd: float | None
    n: int
    collapsed: int
    failed: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Cell":
        """Build a cell from a record with `mean`, `sd`, `n`, `collapsed` and `failed`."""
        whole = not record["collapsed"] and not record["failed"]
        mean, sd = (record["mean"], record["sd"]) if whole else (None, None)
        return cls(mean, sd, record["n"], record["collapsed"], record["failed"])

    def text(self) -> str:
        """Return the cell as text: `0.912 ± 0.014`, `collapsed`, or `failed 1/2` where one of two scorers raised."""
        return number_texts([self.measured()])[0]

    def measured(self) -> Measured:
        """Return the cell as a column of a table shows it."""
        for word, count in (("collapsed", self.collapsed), ("failed", self.failed)):
            if count:
                return Measured(None, word=word if count == self.n else f"{word} {count}/{self.n}")
        return Measured(self.mean, self.sd)


@dataclass(frozen=True)
class TableRow:
    """One line: a method on a model and stream, after `edits` edits (None: at the end).

    `code` names the plugins whose rows the method has; None if all of it is of the release.
    """

    model: str
    stream: str
    method: str
    edits: int | None
    seeds: int
    planned: int
    cells: dict[str, Cell]
    code: str | None = None


@dataclass(frozen=True)
class ResultsTable:
    """Rows in the order of the plan, the columns in use, what is not in the table, and how long a unique id is.

    `scorers` are the plugins behind columns: evaluators that are not part of the release, each with its code.
    """

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    missing: tuple[TrajectoryState, ...]
    by_edits: bool
    id_digits: int
    scorers: Mapping[str, str] = field(default_factory=dict)


def results_table(root: SweepRoot, *, by_edits: bool) -> ResultsTable:
    """Aggregate a sweep's rows: at the end of every trajectory, or at every checkpoint."""
    plan, state = root.plan, root.state
    with connect_roots([root], views=("rows",)) as connection:
        found = connection.sql(query("table"), params={"by_edits": by_edits}).to_arrow_table()
    grouped: dict[tuple[str, str, str, int | None], dict[str, Cell]] = {}
    scorers = {one.row: one.plugin.short for one in plan.plugins if one.kind == "evaluator"}
    for record in found.to_pylist():
        column = column_name(record["metric"], record["protocol"], record["task"])
        if record["evaluator"] in scorers:
            column = f"{record['metric']} ({record['evaluator']}, {record['protocol']})"
        if column is not None:
            key = (record["model"], record["stream"], record["method"], record["edits"])
            grouped.setdefault(key, {})[column] = Cell.of(record)
    used = {column for cells in grouped.values() for column in cells}
    columns = tuple(sorted(used, key=column_order))
    rows = tuple(_rows(plan, grouped))
    missing = tuple(found for found in state.trajectories if not found.is_finished or found.stopped)
    digits = prefix_length([trajectory.id for trajectory in plan.trajectories])
    return ResultsTable(columns, rows, missing, by_edits, digits, scorers)


def _rows(plan: SweepPlan, grouped: dict[tuple[str, str, str, int | None], dict[str, Cell]]) -> list[TableRow]:
    planned: dict[tuple[str, str, str], int] = {}
    code: dict[str, str] = {}
    for trajectory in plan.trajectories:
        plugins = plan.code_of(trajectory)
        if plugins:
            code[trajectory.title] = ", ".join(dict.fromkeys(plugin.short for plugin in plugins.values()))
        key = (trajectory.model, stream_name(trajectory), trajectory.title)
        planned[key] = planned.get(key, 0) + 1
    places: dict[tuple[str, str, str], int] = {}
    order = {(model, stream): place for place, (model, stream, _) in enumerate(reversed(planned))}
    for model, stream, title in sorted(planned, key=lambda key: -order[key[:2]]):
        places.setdefault((model, stream, UNEDITED), len(places))
        places.setdefault((model, stream, title), len(places))
    rows = []
    for place in sorted(grouped, key=lambda place: (places[place[:3]], place[3] or 0)):
        cells = grouped[place]
        seeds = max(cell.n for cell in cells.values())
        rows.append(
            TableRow(*place, seeds=seeds, planned=planned.get(place[:3], seeds), cells=cells, code=code.get(place[2]))
        )
    return rows


def column_name(metric: str, protocol: str, task: str | None) -> str | None:
    """Return the column a metric belongs in, or None for what the table leaves out."""
    if metric in _EDIT_METRICS and task is None:
        return f"{metric} ({protocol})"
    if metric == "general_mean":
        return f"general mean ({task}, {protocol})"
    if metric.endswith("perplexity"):
        return f"{metric.replace('_', ' ')} ({task}, {protocol})"
    return _GEOMETRY.get(metric)


def column_order(column: str) -> tuple[int, str, int, str]:
    """Return the key by which columns are sorted."""
    metric, _, protocol = column.rstrip(")").partition(" (")
    if metric in _EDIT_METRICS:
        place = PROTOCOLS.index(protocol) if protocol in PROTOCOLS else len(PROTOCOLS)
        return (place, protocol, _EDIT_METRICS.index(metric), column)
    names: Sequence[str] = tuple(_GEOMETRY.values())
    return (len(PROTOCOLS) + 1, "", 1 + names.index(column) if column in names else 0, column)


def column_group(column: str) -> str:
    """Return what a column belongs to: an edit-quality protocol, or `model` for general ability and geometry."""
    metric, _, protocol = column.rstrip(")").partition(" (")
    return protocol if metric in _EDIT_METRICS else _MODEL_GROUP
