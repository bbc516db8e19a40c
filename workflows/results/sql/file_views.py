"""Views on Parquet files of several roots, with the columns that every reader gets whatever release wrote them."""

from collections.abc import Mapping, Sequence

import duckdb

from workflows.store.row_schema import RENAMED

__all__ = ["create_file_view"]

_OLD_NAMES = {present: old for old, present in RENAMED.items()}


def create_file_view(
    connection: duckdb.DuckDBPyConnection, name: str, files: Mapping[str, Sequence[str]], columns: Mapping[str, str]
) -> None:
    """Create a view of Parquet files by root, with a column `root` and the given columns (SQL types by name).

    A column that no file has is null; one of a later release is left out. Nothing is read before the view is queried,
    except the names of columns.
    """
    parts = [
        f"SELECT {_text(root)} AS root, {_selected(connection, paths, columns)} FROM {_files(paths)}"
        for root, paths in files.items()
        if paths
    ]
    if not parts:
        nulls = ", ".join(f"NULL::{kind} AS {_quoted(column)}" for column, kind in columns.items())
        parts = [f"SELECT NULL::VARCHAR AS root, {nulls} WHERE false"]
    connection.execute(f"CREATE VIEW {_quoted(name)} AS {' UNION ALL '.join(parts)}")


def _selected(connection: duckdb.DuckDBPyConnection, paths: Sequence[str], columns: Mapping[str, str]) -> str:
    stored = {str(row[0]) for row in connection.sql(f"DESCRIBE FROM {_files(paths)}").fetchall()}
    return ", ".join(f"{_found(column, kind, stored)} AS {_quoted(column)}" for column, kind in columns.items())


def _found(column: str, kind: str, stored: set[str]) -> str:
    names = [name for name in (column, _OLD_NAMES.get(column)) if name in stored]
    quoted = [_quoted(str(name)) for name in names]
    value = f"coalesce({', '.join(quoted)})" if len(quoted) > 1 else quoted[0] if quoted else "NULL"
    return f"{value}::{kind}"


def _files(paths: Sequence[str]) -> str:
    return f"read_parquet([{', '.join(map(_text, paths))}], union_by_name = true)"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
