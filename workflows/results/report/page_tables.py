"""The tables of a report: cells with what they sort by, and the same table as LaTeX and CSV to copy."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment

from workflows.results.formats.latex_table import latex_text
from workflows.results.sql.connect import UNEDITED, stream_name
from workflows.results.tables.published import Comparison
from workflows.results.tables.table import Cell, ResultsTable, TableRow, column_group
from workflows.store.state import SweepState
from workflows.terminal.escape import one_line
from workflows.terminal.numbers import Measured, number_texts

__all__ = ["PageCell", "PageTable", "ledger", "main_table", "table_latex"]

_SHOWN_PROTOCOL = "argmax"
_SHOWN_METRICS = ("efficacy", "generalization", "specificity", "score")


@dataclass(frozen=True)
class PageCell:
    """A cell: its text, what it sorts by (None: last), and whether a word explains a missing number."""

    text: str
    key: float | str | None = None
    missing: bool = False
    published: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table of the page: `columns` with whether they hold numbers, rows with the method each belongs to."""

    name: str
    caption: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, tuple[PageCell, ...]], ...]
    notes: tuple[str, ...] = ()


def main_table(table: ResultsTable, state: SweepState, published: Sequence[Comparison], *, whole: bool) -> PageTable:
    """Return the results at the end, one row per method, with spread and the published number in the same cell.

    Scores of edit quality under one protocol, general means and geometry; `whole`: every column there is.
    """
    kept = [name for name in table.columns if whole or _is_shown(name)]
    several = len({(row.model, row.stream) for row in table.rows}) > 1
    texts = {name: _column(table.rows, name) for name in kept}
    papers = _by_cell(published, state)
    rows = []
    for place, row in enumerate(table.rows):
        where = [PageCell(row.model, row.model), PageCell(row.stream, row.stream)] if several else []
        cells = [*where, PageCell(row.method, row.method), PageCell(_seeds(row), row.seeds)]
        for name in kept:
            cell = row.cells.get(name)
            paper = papers.get((row.model, row.stream, row.method, name), "")
            mean = None if cell is None else cell.mean
            cells.append(PageCell(texts[name][place], mean, cell is not None and mean is None, paper))
        cells.append(_collapsed(row, state))
        rows.append((row.method, tuple(cells)))
    heads = [("model", False), ("stream", False)] if several else []
    heads += [("method", False), ("seeds", True), *((name, True) for name in kept), ("collapsed at", True)]
    caption = "Every method at its last checkpoint: mean ± standard deviation over seeds"
    notes = [f"not finished: {one.plan.title}, seed {one.plan.seed}, {one.state}" for one in table.missing[:20]]
    return PageTable("whole" if whole else "main", caption, tuple(heads), tuple(rows), tuple(notes))


def _is_shown(name: str) -> bool:
    group = column_group(name)
    return group == "model" or (group == _SHOWN_PROTOCOL and name.partition(" (")[0] in _SHOWN_METRICS)


def _column(rows: Sequence[TableRow], name: str) -> list[str]:
    """Return the texts of a column, numbers with as many digits as their spread calls for."""
    cells = [row.cells.get(name) for row in rows]
    return number_texts([Measured(None) if cell is None else cell.measured() for cell in cells])


def _seeds(row: TableRow) -> str:
    return str(row.seeds) if row.seeds == row.planned else f"{row.seeds} of {row.planned}"


def _collapsed(row: TableRow, state: SweepState) -> PageCell:
    place = (row.model, row.stream, row.method)
    own = [one for one in state.trajectories if (one.plan.model, stream_name(one.plan), one.plan.title) == place]
    at = sorted(one.collapsed_at for one in own if one.collapsed_at is not None)
    if not at:
        return PageCell("" if row.method == UNEDITED else "none", None)
    return PageCell(f"{', '.join(map(str, at))} ({len(at)} of {len(own)})", float(at[0]), missing=True)


def _by_cell(published: Sequence[Comparison], state: SweepState) -> dict[tuple[str, str, str, str], str]:
    """Return papers' numbers by model, stream, method and column: those of a stream's data set at its last edit."""
    plans = [one.plan for one in state.trajectories]
    streams = {(plan.model, stream_name(plan)): (plan.dataset.partition(":")[0], plan.edits) for plan in plans}
    return {
        (model, stream, one.method, f"{one.metric} ({one.protocol})"): f"{one.published:.4g}"
        for one in published
        for (model, stream), place in streams.items()
        if (one.model, one.dataset, one.edits) == (model, *place)
    }


def ledger(published: Sequence[Comparison], *, tolerance: float) -> PageTable:
    """Return every published number beside what was measured for it, and whether the two agree.

    They agree if they differ by at most the tolerance that the sweep file gives the metric, `tolerance` where it gives
    none, or by at most two standard deviations over seeds if that is more.
    """
    heads = (
        *(("source", False), ("model", False), ("data set", False), ("method", False), ("edits", True)),
        *(("metric", False), ("published", True), ("measured", True), ("seeds", True), ("difference", True)),
        ("tolerance", True),
        ("verdict", False),
    )
    rows = [(one.method, _ledger_row(one, tolerance)) for one in published]
    caption = (
        f"Published against measured; tolerance: the sweep file's, else {tolerance:g}, "
        "or two standard deviations over seeds if larger"
    )
    return PageTable("ledger", caption, heads, tuple(rows))


def _ledger_row(one: Comparison, tolerance: float) -> tuple[PageCell, ...]:
    cell = one.measured or Cell(None, None, 0, 0, 0)
    own = tolerance if one.tolerance is None else one.tolerance
    allowed = max(own, 2 * (cell.sd or 0.0))
    difference = None if cell.mean is None else cell.mean - one.published
    if difference is None:
        verdict = "cannot be compared: " + ("collapsed or failed" if cell.n else "not scored at this edit count")
    else:
        verdict = "agrees" if abs(difference) <= allowed else "differs"
    return (
        *(PageCell(text, text) for text in (one.source, one.model, one.place, one.method)),
        PageCell(str(one.edits), one.edits),
        PageCell(f"{one.metric} ({one.protocol})", one.metric),
        PageCell(f"{one.published:.4g}", one.published),
        PageCell(number_texts([cell.measured()])[0] if cell.n else "", cell.mean, difference is None),
        PageCell(str(cell.n), cell.n),
        PageCell("" if difference is None else f"{difference:+.4f}", difference),
        PageCell("" if difference is None else f"{allowed:.3g}", allowed),
        PageCell(verdict, verdict, verdict != "agrees"),
    )


def table_latex(table: PageTable, environment: Environment) -> str:
    """Return a table as a fragment of LaTeX to `\\input`; requires the packages booktabs and fontenc (T1)."""
    rows = [[latex_text(cell.text) for cell in cells] for _, cells in table.rows]
    return environment.get_template("table.tex.j2").render(
        alignment="".join("r" if number else "l" for _, number in table.columns),
        heads=[latex_text(name) for name, _ in table.columns],
        rows=rows,
        # A comment, which a line break would end.
        caption=one_line(table.caption),
    )
