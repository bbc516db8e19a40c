"""Any Arrow table as CSV, Parquet, JSON records, Markdown, or a table for a terminal."""

import csv
import io
from collections.abc import Mapping

import pyarrow as pa

from sphere_core.foundation.parquet import parquet_bytes
from workflows.terminal.escape import markdown_text, one_line
from workflows.terminal.markdown import markdown_table
from workflows.terminal.table import Column, TextTable

__all__ = ["arrow_csv", "arrow_markdown", "arrow_parquet", "arrow_text_table"]

# Moved into the heading if all rows agree, so that the columns that differ have room.
_HEADING_COLUMNS = ("model", "stream", "dataset")


def arrow_csv(table: pa.Table) -> str:
    """Return a table as CSV, what is missing as nothing; texts are one printable line each."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(map(one_line, table.column_names))
    for record in table.to_pylist():
        writer.writerow([_csv_cell(value) for value in record.values()])
    return sink.getvalue()


def arrow_parquet(table: pa.Table) -> bytes:
    """Return a table as Parquet bytes."""
    return parquet_bytes(table)


def arrow_text_table(table: pa.Table, columns: Mapping[str, Column], *, title: str = "") -> TextTable:
    """Return a table for a terminal; `columns` says what is special about those it names."""
    shown = [columns.get(field.name, Column(field.name, right=_is_number(field.type))) for field in table.schema]
    return TextTable(shown, [list(record.values()) for record in table.to_pylist()], title)


def arrow_markdown(table: pa.Table) -> str:
    """Return a table as Markdown; values that all rows share are in a line above it."""
    shared = [
        name for name in _HEADING_COLUMNS if name in table.column_names and len(set(table[name].to_pylist())) == 1
    ]
    heading = "; ".join(markdown_text(str(table[name][0].as_py())) for name in shared)
    kept = arrow_text_table(table.drop_columns(shared), {})
    body = markdown_table([column.name for column in kept.columns], kept.texts(short_ids=False))
    return "\n".join([*([heading, ""] if heading else []), body]) + "\n"


def _csv_cell(value: object) -> object:
    if isinstance(value, str):
        return one_line(value)
    return "" if value is None else value


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
