"""Published numbers beside measured ones, in every form."""

from collections.abc import Sequence

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.formats.output import Answer
from workflows.results.tables.published import Comparison
from workflows.terminal.escape import markdown_text
from workflows.terminal.markdown import markdown_table
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["published_answer"]

_NONE = "The sweep file names no published numbers."
_COLUMNS = (
    Column("model", shared=True),
    Column("data set", shared=True),
    Column("method"),
    Column("edits", right=True, shared=True),
    Column("metric"),
    Column("published", right=True),
    Column("measured", right=True),
    Column("difference", 1, right=True),
)
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("source", "model", "dataset", "stream", "method")]
    + [("edits", pa.int64()), ("metric", pa.string()), ("protocol", pa.string())]
    + [(name, pa.float64()) for name in ("published", "mean", "sd", "difference", "tolerance")]
    + [(name, pa.int64()) for name in ("n", "collapsed", "failed")]
)


def published_answer(compared: Sequence[Comparison]) -> Answer:
    """Return the comparison in every form a command gives it in, a table for each source."""
    by_source = {row.source: [other for other in compared if other.source == row.source] for row in compared}
    tables = [TextTable(_COLUMNS, list(map(_cells, rows)), source) for source, rows in by_source.items()]
    records = list(map(_record, compared))
    return Answer(
        table_of_records(records, _SCHEMA),
        tables,
        lambda: _markdown(tables),
        {"published": records},
        [] if compared else [_NONE],
    )


def _markdown(tables: Sequence[TextTable]) -> str:
    if not tables:
        return f"{_NONE}\n"
    head = [column.name for column in _COLUMNS]
    parts = [f"{markdown_text(one.title)}\n\n{markdown_table(head, one.texts(short_ids=False))}" for one in tables]
    return "\n\n".join(parts) + "\n"


def _cells(row: Comparison) -> list[Cell]:
    difference = _difference(row)
    return [
        row.model,
        row.place,
        row.method,
        row.edits,
        f"{row.metric} ({row.protocol})",
        f"{row.published:.3f}",
        "not yet" if row.measured is None else row.measured.measured(),
        None if difference is None else f"{difference:+.3f}",
    ]


def _difference(row: Comparison) -> float | None:
    if row.measured is None or row.measured.mean is None:
        return None
    return row.measured.mean - row.published


def _record(row: Comparison) -> dict[str, object]:
    record: dict[str, object] = {"source": row.source, "model": row.model, "dataset": row.dataset}
    record["stream"] = row.stream
    record |= {"method": row.method, "edits": row.edits, "metric": row.metric, "protocol": row.protocol}
    record |= {"published": row.published, "difference": _difference(row), "tolerance": row.tolerance}
    return record | ({} if row.measured is None else vars(row.measured))
