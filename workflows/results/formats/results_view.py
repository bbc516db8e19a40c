"""The results table of a sweep in every form: columns for a terminal, Markdown, one flat Arrow table, JSON."""

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.formats.output import Answer
from workflows.results.tables.table import ResultsTable, TableRow, column_group
from workflows.store.state import TrajectoryState
from workflows.terminal.escape import markdown_text, one_line
from workflows.terminal.markdown import markdown_table
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["results_answer", "results_arrow", "results_markdown"]

# Which columns leave a narrow terminal last; scores of other protocols than the first come after all of these.
_PRIORITIES = {"efficacy": 1, "score": 1, "specificity": 2, "generalization": 4, "portability": 10, "multi_hop": 10}
_PERPLEXITY, _GENERAL, _DRIFT, _OTHER_EDIT, _OTHER_PROTOCOL = 3, 5, 7, 11, 20
_NOTES = 10


def results_answer(table: ResultsTable) -> Answer:
    """Return the table in every form a command gives it in."""
    missing = [_missing_line(state, table.id_digits) for state in table.missing]
    notes = [f"not finished, so not or not wholly in the table ({len(missing)}):"] if missing else []
    notes += missing[:_NOTES]
    if len(missing) > _NOTES:
        notes.append(f"and {len(missing) - _NOTES} more: sphere status")
    notes += _code_lines(table)
    return Answer(results_arrow(table), [_text_table(table)], lambda: results_markdown(table), _record(table), notes)


def results_markdown(table: ResultsTable) -> str:
    """Return the table as Markdown, with what is missing listed below it.

    The `token` protocol is left to CSV and Parquet where it only repeats `argmax`, as on targets of one token.
    """
    shown = _text_table(table)
    texts = shown.texts(short_ids=False)
    kept = [place for place, column in enumerate(shown.columns) if not _is_told(table, column.name)]
    heads = [f"{c.name} ({c.group})" if c.group else c.name for c in shown.columns]
    body = markdown_table([heads[place] for place in kept], [[row[place] for place in kept] for row in texts])
    parts = [_heading(table), body]
    if table.missing:
        parts.append(f"\nNot finished, so not or not wholly in the table ({len(table.missing)}):\n")
        parts.extend(f"- {markdown_text(_missing_line(state, None))}" for state in table.missing)
    parts.extend(f"\n{markdown_text(line)}" for line in _code_lines(table))
    return "\n".join(parts) + "\n"


def results_arrow(table: ResultsTable) -> pa.Table:
    """Return one line for each row, five columns for each metric: mean, sd, n, collapsed, failed."""
    schema = [("model", pa.string()), ("stream", pa.string()), ("method", pa.string())]
    schema += [("code", pa.string()), ("edits", pa.int64()), ("seeds", pa.int64()), ("seeds_planned", pa.int64())]
    for name in table.columns:
        schema += [(f"{name} mean", pa.float64()), (f"{name} sd", pa.float64())]
        schema += [(f"{name} {count}", pa.int64()) for count in ("n", "collapsed", "failed")]
    records = []
    for row in table.rows:
        record = _row_record(row)
        for name, cell in row.cells.items():
            record |= {f"{name} mean": cell.mean, f"{name} sd": cell.sd, f"{name} n": cell.n}
            record |= {f"{name} collapsed": cell.collapsed, f"{name} failed": cell.failed}
        records.append(record)
    return table_of_records(records, pa.schema(schema))


def _row_record(row: TableRow) -> dict[str, object]:
    return {
        "model": row.model,
        "stream": row.stream,
        "method": row.method,
        "code": row.code,
        "edits": row.edits,
        "seeds": row.seeds,
        "seeds_planned": row.planned,
    }


def _record(table: ResultsTable) -> dict[str, object]:
    rows = [_row_record(row) | {"scores": {n: vars(cell) for n, cell in row.cells.items()}} for row in table.rows]
    missing = [
        {"id": s.plan.id, "method": s.plan.title, "seed": s.plan.seed, "state": s.state, "edits": s.edits_done}
        for s in table.missing
    ]
    return {"by": "edits" if table.by_edits else "method", "rows": rows, "unfinished": missing}


def _text_table(table: ResultsTable) -> TextTable:
    names = [name for name in table.columns if column_group(name) != "token" or not _repeats_argmax(table)]
    edited = [column_group(name) for name in names if _is_edit_score(name)]
    columns = [
        Column("model", shared=True),
        Column("stream", shared=True, prose=True),
        Column("method"),
        *[Column("edits", right=True)] * table.by_edits,
        Column("seeds", 6, shared=True),
        *(_metric_column(name, edited[0] if edited else "") for name in names),
    ]
    rows: list[list[Cell]] = []
    for row in table.rows:
        place: list[Cell] = [row.model, row.stream, _marked(row), *[row.edits] * table.by_edits, _seeds(row)]
        rows.append([*place, *(row.cells[name].measured() if name in row.cells else None for name in names)])
    where = "at every checkpoint" if table.by_edits else "at the end"
    return TextTable(columns, rows, f"{where}; mean ± sd over seeds")


def _metric_column(name: str, first: str) -> Column:
    metric, _, protocol = name.rstrip(")").partition(" (")
    if not _is_edit_score(name):
        priority = _PERPLEXITY if "perplexity" in metric else _GENERAL if protocol else _DRIFT
        return Column(name, priority, right=True)
    priority = _PRIORITIES.get(metric, _OTHER_EDIT) + (0 if protocol == first else _OTHER_PROTOCOL)
    return Column(metric, priority, right=True, group=protocol)


def _is_edit_score(name: str) -> bool:
    return column_group(name) != "model"


def _is_told(table: ResultsTable, name: str) -> bool:
    """Return whether the heading holds a column's only value: the one model, the one stream."""
    return name in ("model", "stream") and len({getattr(row, name) for row in table.rows}) <= 1


def _repeats_argmax(table: ResultsTable) -> bool:
    pairs = [(name, name.replace("token", "argmax")) for name in table.columns if column_group(name) == "token"]
    return all(row.cells.get(name) == row.cells.get(other) for row in table.rows for name, other in pairs)


def _heading(table: ResultsTable) -> str:
    where = "at every checkpoint" if table.by_edits else "at the end"
    places = list(dict.fromkeys(f"{row.model}; {row.stream}" for row in table.rows))
    text = f"{markdown_text(places[0])}; {where}" if len(places) == 1 else where
    return f"{text}; mean ± sd over seeds; columns name their protocol\n"


def _missing_line(state: TrajectoryState, digits: int | None) -> str:
    """Return one line on a trajectory that is not finished; its id whole, or its first digits."""
    plan = state.plan
    text = f"{plan.id[:digits]} {plan.model} {plan.title} seed {plan.seed}: {state.state}"
    text += f", {state.edits_done}/{plan.length} {'edits' if plan.parent is None else 'steps'}"
    if state.missing:
        text += f", {len(state.missing)} scores missing"
    return one_line(text)


def _marked(row: TableRow) -> str:
    """Return the method's name, with a mark if others cannot repeat its rows with this release alone."""
    return row.method if row.code is None else f"{row.method} *"


def _code_lines(table: ResultsTable) -> list[str]:
    """Return a line for each method and evaluator whose numbers come from other code than this release."""
    code = {row.method: row.code for row in table.rows if row.code is not None}
    lines = [
        f"* {one_line(method)}: code of {one_line(plugins)}, not of this release" for method, plugins in code.items()
    ]
    return lines + [f"* scores of {name}: code of {one_line(code)}" for name, code in table.scorers.items()]


def _seeds(row: TableRow) -> str:
    return str(row.seeds) if row.seeds == row.planned else f"{row.seeds} of {row.planned}"
