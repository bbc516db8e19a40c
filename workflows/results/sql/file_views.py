"""Views on Parquet files of several roots, with the columns that every reader gets whatever release wrote them."""

from collections.abc import Iterator, Mapping, Sequence

import duckdb

from workflows.store.row_schema import RENAMED

__all__ = ["create_file_view"]

# Releases and settings differ in a few columns; more groups than this have nothing to do with the columns.
_MOST_GROUPS = 8
_OLD_NAMES = {present: old for old, present in RENAMED.items()}


def create_file_view(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    files: Mapping[str, Sequence[str]],
    columns: Mapping[str, str],
    *,
    schemas: Mapping[str, bytes | None],
) -> None:
    """Create a view of Parquet files by root, with a column `root` and the given columns (SQL types by name).

    A column that no file has is null; one of a later release is left out. `schemas` are the stored schemas of the files
    (None: not known): of files with equal ones, only the first is opened before the view is queried.
    """
    parts = [
        f"SELECT {_text(root)} AS root, {_selected(connection, found, columns)} FROM {found}"
        for root, paths in files.items()
        for found in _alike(paths, schemas)
    ]
    if not parts:
        nulls = ", ".join(f"NULL::{kind} AS {_quoted(column)}" for column, kind in columns.items())
        parts = [f"SELECT NULL::VARCHAR AS root, {nulls} WHERE false"]
    connection.execute(f"CREATE VIEW {_quoted(name)} AS {' UNION ALL '.join(parts)}")


def _alike(paths: Sequence[str], schemas: Mapping[str, bytes | None]) -> Iterator[str]:
    """Yield calls that read the files, those of one schema together: matching columns by name opens every file."""
    groups: dict[bytes | None, list[str]] = {}
    for path in paths:
        groups.setdefault(schemas.get(path), []).append(path)
    if len(groups) > _MOST_GROUPS:
        groups = {None: list(paths)}
    for schema, found in groups.items():
        yield f"read_parquet([{', '.join(map(_text, found))}], union_by_name = {'true' if schema is None else 'false'})"


def _selected(connection: duckdb.DuckDBPyConnection, files: str, columns: Mapping[str, str]) -> str:
    stored = {str(row[0]) for row in connection.sql(f"DESCRIBE FROM {files}").fetchall()}
    return ", ".join(f"{_found(column, kind, stored)} AS {_quoted(column)}" for column, kind in columns.items())


def _found(column: str, kind: str, stored: set[str]) -> str:
    names = [name for name in (column, _OLD_NAMES.get(column)) if name in stored]
    quoted = [_quoted(str(name)) for name in names]
    value = f"coalesce({', '.join(quoted)})" if len(quoted) > 1 else quoted[0] if quoted else "NULL"
    return f"{value}::{kind}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
