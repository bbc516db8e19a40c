"""Read a sweep's row files as one table. Requires neither models nor Ray."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from sphere_core.foundation.storage import Storage
from workflows.store.plan import SweepPlan
from workflows.store.row_schema import ROW_SCHEMA
from workflows.store.state import SweepFiles, scan

__all__ = ["read_rows"]

_NULLABLE = pa.schema([field.with_nullable(True) for field in ROW_SCHEMA])
_TYPES = _NULLABLE.types


def read_rows(storage: Storage, plan: SweepPlan, files: SweepFiles | None = None) -> pa.Table:
    """Return all rows of a plan: those of its trajectories' checkpoints and of the unedited models.

    Row files of other sweeps, of other evaluator settings and of unplanned checkpoints are left out.
    """
    found = files if files is not None else scan(storage)
    tables = [_read(storage, path) for path in sorted(_planned_paths(plan, found) & found.rows)]
    return pa.concat_tables(tables) if tables else ROW_SCHEMA.empty_table()


def _planned_paths(plan: SweepPlan, files: SweepFiles) -> set[str]:
    paths = {base.rows_path for base in plan.bases}
    for trajectory in plan.trajectories:
        for edits in files.checkpoints.get(trajectory.id, ()):
            paths |= {trajectory.rows_path(edits, evaluation) for evaluation in trajectory.evaluations}
    return paths


def _read(storage: Storage, path: str) -> pa.Table:
    # One small file: a pool of threads costs more than it saves, and may still run when the process ends.
    table = pq.ParquetFile(io.BytesIO(storage.read_bytes(path))).read(use_threads=False)
    # A column of a later release is left out, one of an earlier release is filled with nulls.
    names = set(table.schema.names)
    columns = [
        table[field.name] if field.name in names else pa.nulls(table.num_rows, field.type) for field in _NULLABLE
    ]
    found = pa.Table.from_arrays(columns, names=_NULLABLE.names)
    # Most files are of this very schema, and a cast of each column would take as long as reading them.
    return pa.Table.from_arrays(columns, schema=_NULLABLE) if found.schema.types == _TYPES else found.cast(_NULLABLE)
