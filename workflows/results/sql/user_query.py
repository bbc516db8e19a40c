"""A user's query on the views of sweep directories: one statement that reads."""

import duckdb
import pyarrow as pa
import pyarrow.types as kinds

from sphere_core.foundation.errors import InputError
from workflows.results.sql.connect import VIEWS

__all__ = ["run_query", "views_in"]

# A pivot is several statements to DuckDB; on a locked connection these read as well.
_READING = ("SELECT", "EXPLAIN", "MULTI")
_WHERE = "the query"


def views_in(text: str) -> tuple[str, ...]:
    """Return the views that a query may read: those whose names it holds; all of them if it holds none."""
    lowered = text.lower()
    named = tuple(name for name in VIEWS if name in lowered)
    return named or VIEWS


def run_query(connection: duckdb.DuckDBPyConnection, text: str) -> pa.Table:
    """Return the answer of one reading statement as Arrow; raises InputError for any other, and for faults in it.

    Whole numbers wider than 64 bits (a sum of integers) become int64 where they fit and float64 elsewhere; dates and
    intervals become text.
    """
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise _fault(error) from error
    if len(statements) != 1 or statements[0].type.name not in _READING:
        raise InputError(
            "a query is one SELECT",
            where=_WHERE,
            remedy="views are read-only; write to a file with --out FILE.csv or FILE.parquet",
        )
    try:
        found = connection.sql(text)
        table = found.to_arrow_table() if found is not None else pa.table({})
    except duckdb.Error as error:
        raise _fault(error) from error
    return pa.table({name: _plain(column) for name, column in zip(table.column_names, table.columns, strict=True)})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if kinds.is_decimal(column.type):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column.cast(pa.float64())
    return column.cast(pa.string()) if kinds.is_temporal(column.type) else column


def _fault(error: duckdb.Error) -> InputError:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(("LINE ", " "))]
    return InputError(
        " ".join(lines[:3]),
        where=_WHERE,
        remedy=f"views: {', '.join(VIEWS)}; 'sphere sql ROOT' without a query lists their columns",
    )
