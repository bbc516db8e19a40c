"""Making a layout's table from the views of sweep directories."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_lowercase
from typing import Any

import duckdb
import numpy as np

from sphere_core.foundation.errors import unknown_name
from workflows.results.layouts.asked import Records, in_group, resolved_columns, resolved_groups, resolved_rows
from workflows.results.layouts.layout import SPREADS, ColumnAsk, GroupAsk, Layout
from workflows.results.layouts.made_table import MadeCell, MadeRow, MadeTable
from workflows.results.layouts.spread import LEAST_SEEDS_FOR_A_STAR, half_width, paired_by_seed
from workflows.results.sql.connect import connect_roots, query
from workflows.results.sql.sweep_roots import SweepRoot

__all__ = ["layout_table"]

# Metrics whose rows are means of outcomes of one record each: the role of the probes behind them.
_ROLES = {"efficacy": "rewrite", "generalization": "paraphrase", "specificity": "neighborhood"}
_OUTCOMES = ("argmax", "token", "probability")
_SPECIFICITY, _HOLD_IT = "specificity", ("specificity", "score", "score_arithmetic")
_SAME = 1e-9
# The words that take the place of a mean, and what they say.
_WORDS = {
    "collapsed": "the answers of these seeds were not finite or mostly ties, so the mean is left out",
    "failed": "editing or scoring raised, so the mean is left out; 'sphere status' shows why",
    "pending": "not finished, or not scored yet",
    "stopped": "ended early by a limit of the sweep; 'sphere status' shows which",
    "not scored": "finished, and not scored by this metric here",
}


def layout_table(roots: Sequence[SweepRoot], layout: Layout) -> MadeTable:
    """Return the table of a layout; raises InputError for names that the sweeps do not have."""
    views = ["scores", "geometry_means", *(["probes"] if layout.difference_from is not None else [])]
    metrics = [*dict.fromkeys([*(column.metric for column in layout.columns), _SPECIFICITY])]
    with connect_roots(roots, views=views, checkpoints="every" if layout.checkpoints else "last") as connection:
        asked = {"metrics": metrics, "edits": list(layout.checkpoints)}
        records = connection.sql(query("layouts/cells"), params=asked).to_arrow_table().to_pylist()
        _refuse_unknown_metrics(connection, layout, records)
        maker = _Maker(layout, roots, records, resolved_columns(layout, records), connection)
        return maker.table()


def _refuse_unknown_metrics(connection: duckdb.DuckDBPyConnection, layout: Layout, records: Records) -> None:
    found = {record["metric"] for record in records}
    missing = [column.metric for column in layout.columns if column.metric not in found]
    if missing and any(record["metric"] is not None for record in records):
        known = connection.sql("SELECT DISTINCT metric FROM rows ORDER BY 1").fetchall()
        names = [name for (name,) in known]
        for metric in missing:
            if metric not in names:
                raise unknown_name("metric", metric, names, where="layout, key columns")


@dataclass
class _Maker:
    """The state of one table under way: notes get letters in the order in which cells need them."""

    layout: Layout
    roots: Sequence[SweepRoot]
    records: Records
    columns: tuple[ColumnAsk, ...]
    connection: duckdb.DuckDBPyConnection
    _notes: dict[str, str] = field(default_factory=dict)
    _remarks: dict[str, list[str]] = field(default_factory=dict)
    _outcomes: dict[tuple[str, str, int | None], dict[str, dict[int, float]]] = field(default_factory=dict)

    def table(self) -> MadeTable:
        rows, groups = resolved_rows(self.layout, self.roots), resolved_groups(self.layout, self.roots)
        base = self.layout.difference_from
        if base is not None and base not in [row.method for row in rows]:
            raise unknown_name("method", base, [r.method for r in rows], where="layout, key difference_from")
        made: list[MadeRow] = []
        if self.layout.unedited is not None:
            made.append(MadeRow(self.layout.unedited, "unedited", None, self._cells(groups, None)))
        for row in rows:
            made.append(MadeRow(row.title, "method", row.method, self._cells(groups, row.method)))
            if self.layout.published:
                cells = tuple(tuple(self._published(group, row.method, c) for c in self.columns) for group in groups)
                if any(cell.mean is not None for part in cells for cell in part):
                    made.append(MadeRow(f"{row.title} (published)", "published", row.method, cells))
        table = MadeTable(
            self.layout, tuple(g.name for g in groups), self.columns, tuple(made), SPREADS[self.layout.spread]
        )
        notes = {letter: text for text, letter in self._notes.items()}
        remarks = [table.spread, *(f"{', '.join(columns)}: {text}" for text, columns in self._remarks.items())]
        ranked = _ranked(table) if self.layout.best else table.rows
        return replace(table, rows=ranked, notes=notes, remarks=tuple(remarks))

    def _cells(self, groups: Sequence[GroupAsk], method: str | None) -> tuple[tuple[MadeCell, ...], ...]:
        make = self._unedited if method is None else self._method
        return tuple(tuple(make(group, column, method) for column in self.columns) for group in groups)

    def _members(self, group: GroupAsk, method: str | None) -> list[dict[str, Any]]:
        return [
            r
            for r in self.records
            if in_group(group, r["model"], r["dataset"], r["stream_order"], r["planned_edits"])
            and method in (None, r["method"])
        ]

    def _scored(self, group: GroupAsk, column: ColumnAsk, method: str | None) -> list[dict[str, Any]]:
        same, edits = (column.metric, column.protocol, column.task), self.layout.edits_of(column)
        members = [r for r in self._members(group, method) if (r["metric"], r["protocol"], r["task"]) == same]
        return [r for r in members if (r["is_last"] if edits is None else r["edits"] == edits)]

    def _unedited(self, group: GroupAsk, column: ColumnAsk, _: str | None) -> MadeCell:
        by_seed = {r["seed"]: r["unedited"] for r in self._scored(group, column, None)}
        known = [value for value in by_seed.values() if value is not None]
        if not known:
            return MadeCell(word=None)
        spread = None
        if self.layout.spread.endswith("seeds"):
            spread = half_width(self.layout.spread, known, [None] * len(known))
        return MadeCell(float(np.mean(known)), spread, len(known), len(by_seed), marks=self._floor(group, column))

    def _method(self, group: GroupAsk, column: ColumnAsk, method: str | None) -> MadeCell:
        planned = {r["trajectory_id"]: r for r in self._members(group, method)}
        scored = self._scored(group, column, method)
        unscored = [planned[one] for one in planned.keys() - {r["trajectory_id"] for r in scored}]
        collapsed = sum(r["status"] == "collapsed" for r in scored) + sum(
            self._collapsed_before(r, column) for r in unscored
        )
        failed = sum(r["status"] == "failed" for r in scored) + sum(r["state"] == "failed" for r in unscored)
        cell = MadeCell(seeds=len(scored), planned=len(planned), collapsed=collapsed, failed=failed)
        for word, count in (("collapsed", collapsed), ("failed", failed)):
            if count:
                shown = word if count == len(planned) else f"{word} {count}/{len(planned)}"
                return replace(cell, word=shown, marks=(self._note(f"{word}: {_WORDS[word]}"),))
        if not scored:
            if not planned:
                return cell
            word = _unscored(unscored)
            return replace(cell, word=word, marks=(self._note(f"{word}: {_WORDS[word]}"),))
        marks = self._floor(group, column)
        if unscored:
            marks += (self._note(f"fewer seeds than planned; the others: {_WORDS[_unscored(unscored)]}"),)
        values = [float(r["value"]) for r in scored]
        difference = None
        if self.layout.difference_from not in (None, method):
            difference = self._difference(group, column, scored)
        known = [float(r["unedited"]) for r in scored if r["unedited"] is not None]
        return replace(
            cell,
            mean=float(np.mean(values)),
            spread=half_width(self.layout.spread, values, [r["stderr"] for r in scored]),
            records=sum(r["n"] for r in scored),
            unedited=float(np.mean(known)) if len(known) == len(scored) else None,
            difference=difference,
            marks=marks,
            higher_is_better=_direction(column, scored[0]["higher_is_better"]),
        )

    def _collapsed_before(self, record: dict[str, Any], column: ColumnAsk) -> bool:
        """Return whether a trajectory collapsed before the checkpoint that a column is of."""
        at, edits = record["collapsed_at"], self.layout.edits_of(column)
        return at is not None and edits is not None and at < edits

    def _difference(self, group: GroupAsk, column: ColumnAsk, scored: list[dict[str, Any]]) -> Any:
        base = {r["seed"]: r for r in self._scored(group, column, self.layout.difference_from)}
        pairs = [(r, base[r["seed"]]) for r in scored if r["seed"] in base and base[r["seed"]]["value"] is not None]
        if not pairs:
            return None
        records = list(self._paired_records(column, pairs))
        whole = records if records and len(records) == len(pairs) else None
        found = paired_by_seed([one["value"] - other["value"] for one, other in pairs], whole)
        over = "seeds and records" if whole is not None else "seeds"
        interval = f"; 95 % interval over {over}" if found.low is not None else ""
        name = next((row.title for row in self.layout.rows if row.method == self.layout.difference_from), None)
        self._remark(f"difference from {name or self.layout.difference_from}, paired by seed{interval}", column)
        if len(pairs) < len(scored):
            self._remark("a difference is over those seeds that have a number of both methods", column)
        if found.star:
            self._remark(f"*: the interval excludes 0, with {LEAST_SEEDS_FOR_A_STAR} seeds or more", column)
        return found

    def _paired_records(
        self, column: ColumnAsk, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]
    ) -> Iterator[np.ndarray]:
        if column.metric not in _ROLES or column.protocol not in _OUTCOMES:
            return
        outcomes = self._outcomes_of(_ROLES[column.metric], column.protocol, self.layout.edits_of(column))
        for pair in pairs:
            one, other = (outcomes.get(r["trajectory_id"], {}) for r in pair)
            common = [edit for edit in one if edit in other]
            # A row that differs from the plain mean of its records (a sample, an alias) is paired by seed alone.
            for record, known in zip(pair, (one, other), strict=True):
                if not known or abs(np.mean(list(known.values())) - record["value"]) > _SAME or not common:
                    return
            yield np.array([one[edit] - other[edit] for edit in common], dtype=np.float64)

    def _outcomes_of(self, role: str, protocol: str, edits: int | None) -> dict[str, dict[int, float]]:
        key = (role, protocol, edits)
        if key not in self._outcomes:
            asked = {"role": role, "protocol": protocol, "edits": edits}
            found: dict[str, dict[int, float]] = {}
            for trajectory, edit, outcome in self.connection.execute(query("layouts/records"), asked).fetchall():
                found.setdefault(trajectory, {})[edit] = outcome
            self._outcomes[key] = found
        return self._outcomes[key]

    def _floor(self, group: GroupAsk, column: ColumnAsk) -> tuple[str, ...]:
        if column.metric not in _HOLD_IT:
            return ()
        specific = column.model_copy(update={"metric": _SPECIFICITY})
        known = [r["unedited"] for r in self._scored(group, specific, None) if r["unedited"] is not None]
        if not known or float(np.mean(known)) >= self.layout.floor:
            return ()
        text = (
            f"the unedited model's specificity ({column.protocol}) is {float(np.mean(known)):.3f}, at its floor: "
            "there was next to nothing to keep"
        )
        return (self._note(text),)

    def _published(self, group: GroupAsk, method: str, column: ColumnAsk) -> MadeCell:
        members = self._members(group, method)
        places = {(r["model"], r["dataset"].partition(":")[0], self._edits(r, column)) for r in members}
        for root in self.roots:
            for entry in root.plan.published_scores:
                here = (entry.model, entry.dataset, entry.edits) in places and entry.protocol == column.protocol
                if here and column.metric in entry.metrics and method in entry.values and column.task is None:
                    value = entry.values[method][entry.metrics.index(column.metric)]
                    if value is not None:
                        return MadeCell(value, marks=(self._note(entry.source),))
        return MadeCell()

    def _edits(self, record: dict[str, Any], column: ColumnAsk) -> int:
        return int(self.layout.edits_of(column) or record["planned_edits"])

    def _remark(self, text: str, column: ColumnAsk) -> None:
        columns = self._remarks.setdefault(text, [])
        if column.title not in columns:
            columns.append(column.title)

    def _note(self, text: str) -> str:
        if text not in self._notes:
            self._notes[text] = _mark(len(self._notes))
        return self._notes[text]


def _mark(place: int) -> str:
    """Return the mark of a note: a to z, then aa, ab and so on."""
    before, own = divmod(place, len(ascii_lowercase))
    return (_mark(before - 1) if before else "") + ascii_lowercase[own]


def _unscored(records: Sequence[dict[str, Any]]) -> str:
    """Return the word for trajectories without a score: why there is none, if that holds for all of them."""
    states = {record["state"] for record in records}
    if states <= {"done", "collapsed", "stopped"}:
        return "stopped" if "stopped" in states else "not scored"
    return "pending"


def _direction(column: ColumnAsk, stored: bool | None) -> bool | None:
    return stored if column.better is None else {"higher": True, "lower": False, "neither": None}[column.better]


def _ranked(table: MadeTable) -> tuple[MadeRow, ...]:
    """Return the rows with the ranks of their cells: equal as printed is equal."""
    rows = [list(map(list, row.cells)) for row in table.rows]
    methods = [place for place, row in enumerate(table.rows) if row.kind == "method"]
    for group in range(len(table.groups)):
        for place, column in enumerate(table.columns):
            known = [(row, rows[row][group][place]) for row in methods]
            known = [(row, cell) for row, cell in known if cell.mean is not None and cell.higher_is_better is not None]
            printed = {row: float(table.number(column, cell.mean or 0.0)) for row, cell in known}
            best = sorted(set(printed.values()), reverse=bool(known and known[0][1].higher_is_better))
            for row, cell in known:
                rank = best.index(printed[row]) + 1
                if len(best) > 1 and rank <= 2:
                    rows[row][group][place] = replace(cell, rank=rank)
    return tuple(replace(row, cells=tuple(map(tuple, cells))) for row, cells in zip(table.rows, rows, strict=True))
