"""Writing results as Markdown, CSV or Parquet."""

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq

from workflows.results.tables.table import ResultsTable, TableRow, column_group, number_text
from workflows.store.state import TrajectoryState

__all__ = [
    "arrow_csv",
    "arrow_markdown",
    "arrow_parquet",
    "markdown_pipes",
    "table_csv",
    "table_markdown",
    "table_parquet",
]

# Told in the heading where all rows agree, so that the columns that differ have room.
_HEADING_COLUMNS = ("model", "stream", "dataset")


def table_markdown(table: ResultsTable, *, width: int | None = None) -> str:
    """Return the table as Markdown, with what is missing listed below it.

    A table wider than `width` characters is given in parts, one a protocol. The `token` protocol is left to CSV and
    Parquet where it only repeats `argmax`, as it does on targets of one token.
    """
    columns = [name for name in table.columns if column_group(name) != "token" or not _repeats_argmax(table)]
    parts = [_heading(table)]
    whole = _markdown_part(table, columns)
    if width is None or max(len(line) for line in whole.splitlines()) <= width:
        parts.append(whole)
    else:
        groups = dict.fromkeys(column_group(name) for name in columns)
        parts.extend(
            _markdown_part(table, [name for name in columns if column_group(name) == group]) + "\n" for group in groups
        )
    if table.missing:
        parts.append(f"\nNot finished, so not or not wholly in the table ({len(table.missing)}):\n")
        parts.extend(f"- {missing_line(state)}" for state in table.missing)
    return "\n".join(parts).rstrip("\n") + "\n"


def _repeats_argmax(table: ResultsTable) -> bool:
    pairs = [(name, name.replace("token", "argmax")) for name in table.columns if column_group(name) == "token"]
    return all(
        (row.cells[name].text() if name in row.cells else "") == (row.cells[other].text() if other in row.cells else "")
        for row in table.rows
        for name, other in pairs
    )


def _heading(table: ResultsTable) -> str:
    where = "at every checkpoint" if table.by_edits else "at the end"
    places = list(dict.fromkeys(f"{row.model}; {row.stream}" for row in table.rows))
    text = f"{places[0]}; {where}" if len(places) == 1 else where
    return f"{text}; mean ± sd over seeds; columns name their protocol\n"


def _markdown_part(table: ResultsTable, columns: list[str]) -> str:
    several_models = len({row.model for row in table.rows}) > 1
    several_streams = len({row.stream for row in table.rows}) > 1
    head = ["model"] * several_models + ["stream"] * several_streams + ["method"]
    head += ["edits"] * table.by_edits + ["seeds", *columns]
    lines = [
        [row.model] * several_models
        + [row.stream] * several_streams
        + [row.method]
        + [str(row.edits)] * table.by_edits
        + [_seeds(row)]
        + [row.cells[name].text() if name in row.cells else "–" for name in columns]
        for row in table.rows
        if any(name in row.cells for name in columns)
    ]
    return markdown_pipes(head, lines)


def missing_line(state: TrajectoryState) -> str:
    """Return one line on a trajectory that is not finished."""
    plan = state.plan
    text = f"{plan.id} {plan.model} {plan.title} seed {plan.seed}: {state.state}"
    text += f", {state.edits_done}/{plan.edits} edits"
    if state.missing:
        text += f", {len(state.missing)} scores missing"
    return text


def table_csv(table: ResultsTable) -> str:
    """Return the table as CSV: mean, sd, n and the numbers of collapsed and failed seeds of each column."""
    return arrow_csv(table_arrow(table))


def table_parquet(table: ResultsTable) -> bytes:
    """Return the same columns as the CSV as Parquet bytes."""
    return arrow_parquet(table_arrow(table))


def arrow_csv(table: pa.Table) -> str:
    """Return any table as CSV, what is missing as nothing."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(table.column_names)
    for record in table.to_pylist():
        writer.writerow(["" if value is None else value for value in record.values()])
    return sink.getvalue()


def arrow_parquet(table: pa.Table) -> bytes:
    """Return any table as Parquet bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def arrow_markdown(table: pa.Table, *, shown: int | None) -> str:
    """Return any table as Markdown, its first `shown` rows (None: all); names that all rows share stand above it."""
    shared = [
        name for name in _HEADING_COLUMNS if name in table.column_names and len(set(table[name].to_pylist())) == 1
    ]
    heading = "; ".join(str(table[name][0].as_py()) for name in shared)
    kept = table.drop_columns(shared)
    lines = [[_cell(value) for value in record.values()] for record in kept.slice(0, shown).to_pylist()]
    parts = [*([heading, ""] if heading else []), markdown_pipes(kept.column_names, lines)]
    if shown is not None and table.num_rows > shown:
        parts.append(f"\n{table.num_rows - shown} more rows: ask for --format csv or parquet, or for --out FILE")
    return "\n".join(parts) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number_text(value) if isinstance(value, float) else str(value)


def table_arrow(table: ResultsTable) -> pa.Table:
    """Return one line a row, five columns a metric."""
    schema = [("model", pa.string()), ("stream", pa.string()), ("method", pa.string())]
    schema += [("edits", pa.int64()), ("seeds", pa.int64()), ("seeds_planned", pa.int64())]
    for name in table.columns:
        schema += [(f"{name} mean", pa.float64()), (f"{name} sd", pa.float64())]
        schema += [(f"{name} {count}", pa.int64()) for count in ("n", "collapsed", "failed")]
    records = []
    for row in table.rows:
        record: dict[str, object] = {
            "model": row.model,
            "stream": row.stream,
            "method": row.method,
            "edits": row.edits,
            "seeds": row.seeds,
            "seeds_planned": row.planned,
        }
        for name, cell in row.cells.items():
            record |= {f"{name} mean": cell.mean, f"{name} sd": cell.sd, f"{name} n": cell.n}
            record |= {f"{name} collapsed": cell.collapsed, f"{name} failed": cell.failed}
        records.append(record)
    return pa.Table.from_pylist(records, schema=pa.schema(schema))


def _seeds(row: TableRow) -> str:
    return str(row.seeds) if row.seeds == row.planned else f"{row.seeds} of {row.planned}"


def markdown_pipes(head: list[str], lines: list[list[str]]) -> str:
    """Return aligned Markdown: a head, a rule, and a line each."""
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in [head, *lines]]
    widths = [max(len(line[index]) for line in escaped) for index in range(len(head))]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in escaped
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([rows[0], rule, *rows[1:]])
