"""Read a sweep's row files as one table. Requires neither models nor Ray."""

import logging
from collections.abc import Sequence

import pyarrow as pa

from sphere_core.foundation.parquet import parquet_table
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from workflows.store.plan import SweepPlan
from workflows.store.row_schema import RENAMED, ROW_SCHEMA
from workflows.store.state import SweepFiles, scan

__all__ = [
    "compared_numbers",
    "planned_row_paths",
    "read_row_file",
    "read_row_files",
    "read_rows",
    "warn_of_damage",
    "with_present_names",
]

# Names for people, of which the same content may have two, and the version of the schema: no numbers.
_NOT_COMPARED = ("model", "dataset", "schema_version")
_LOGGER = logging.getLogger(__name__)
_REMEDY = "'sphere verify ROOT --repair', then run the sweep again"
_NULLABLE = pa.schema([field.with_nullable(True) for field in ROW_SCHEMA])
_TYPES = _NULLABLE.types


def read_rows(storage: Storage, plan: SweepPlan, files: SweepFiles | None = None) -> pa.Table:
    """Return all rows of a plan: those of its trajectories' checkpoints and of the unedited models.

    Row files of other sweeps, of other evaluator settings and of unplanned checkpoints are left out.
    """
    found = files if files is not None else scan(storage)
    return read_row_files(storage, sorted(planned_row_paths(plan, found) & found.rows))


def read_row_files(storage: Storage, paths: Sequence[str]) -> pa.Table:
    """Return the rows of some files, in their order, with the columns of today's schema.

    A damaged file is left out, with a warning that names it: it never takes the others' rows away.
    """
    tables = [table for path in paths if (table := read_row_file(storage, path)) is not None]
    return pa.concat_tables(tables) if tables else ROW_SCHEMA.empty_table()


def read_row_file(storage: Storage, path: str) -> pa.Table | None:
    """Return the rows of one file as `read_row_files`; None for a damaged one, with a warning that names it."""
    try:
        return _read(storage, path)
    except (StorageError, FileNotFoundError):
        raise
    except (OSError, pa.ArrowException) as error:
        warn_of_damage(f"{storage.uri}/{path}", error)
        return None


def warn_of_damage(name: str, error: Exception) -> None:
    """Log that a damaged file of rows or details is left out, and what to do about it."""
    _LOGGER.warning("%s is damaged and left out (%s): %s", name, error, _REMEDY)


def with_present_names(table: pa.Table) -> pa.Table:
    """Return a table of rows or details with the columns that an older schema named differently renamed."""
    return table.rename_columns([RENAMED.get(name, name) for name in table.column_names])


def compared_numbers(data: bytes) -> pa.Table:
    """Return what two files of one subject and evaluation must agree in, from the bytes of rows or details."""
    table = with_present_names(parquet_table(data))
    # A column without any value says as much as one that an earlier schema lacks.
    empty = {name for name in table.column_names if table[name].null_count == table.num_rows}
    return table.select([name for name in table.column_names if name not in empty.union(_NOT_COMPARED)])


def planned_row_paths(plan: SweepPlan, files: SweepFiles) -> set[str]:
    """Return the row files that a plan may have: of its unedited models, and of its checkpoints that exist."""
    paths = {base.rows_path for base in plan.bases}
    for trajectory in plan.trajectories:
        for edits in files.checkpoints.get(trajectory.id, ()):
            paths |= {trajectory.rows_path(edits, evaluation) for evaluation in trajectory.evaluations}
    return paths


def _read(storage: Storage, path: str) -> pa.Table:
    table = with_present_names(parquet_table(storage.read_bytes(path)))
    # A column of a later release is left out, one of an earlier release is filled with nulls.
    names = set(table.schema.names)
    columns = [
        table[field.name] if field.name in names else pa.nulls(table.num_rows, field.type) for field in _NULLABLE
    ]
    found = pa.Table.from_arrays(columns, names=_NULLABLE.names)
    # Most files are of this very schema, and a cast of each column would take as long as reading them.
    return pa.Table.from_arrays(columns, schema=_NULLABLE) if found.schema.types == _TYPES else found.cast(_NULLABLE)
