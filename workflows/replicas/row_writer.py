"""Row files: one Parquet file for every (checkpoint, evaluator), with a declared schema and reproducible bytes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields

import pyarrow as pa

from evaluators.base import Score
from sphere_core.foundation.parquet import parquet_bytes
from sphere_core.foundation.storage import Storage
from workflows.store.row_reader import compared_numbers
from workflows.store.row_schema import ROW_SCHEMA, SCHEMA_VERSION

__all__ = ["RowsConflictError", "SubjectColumns", "encode_row_table", "encode_rows", "encode_table", "publish_rows"]

_LOGGER = logging.getLogger(__name__)


class RowsConflictError(RuntimeError):
    """The same checkpoint, scored by the same evaluator, gave different numbers."""


@dataclass(frozen=True)
class SubjectColumns:
    """The columns that all rows of a file share: which weights were scored, and by what."""

    trajectory_id: str | None
    model: str
    model_digest: str
    dtype: str
    method: str | None
    editor: str | None
    regularizer: str | None
    dataset: str | None
    stream_order: str | None
    seed: int | None
    batch_size: int | None
    edits: int
    stream_digest: str | None
    weights_digest: str
    evaluator: str
    evaluation_id: str
    steps: int | None = None


def encode_rows(shared: SubjectColumns, scores: Sequence[Score]) -> bytes:
    """Return the Parquet bytes of one file: scores in the given order; equal input gives equal bytes."""
    constant = {field.name: getattr(shared, field.name) for field in fields(shared)}
    rows = [
        {
            "schema_version": SCHEMA_VERSION,
            **constant,
            "metric": score.metric,
            "protocol": score.protocol,
            "site": score.site,
            "task": score.task,
            "value": score.value,
            "stderr": score.stderr,
            "ci_low": score.ci_low,
            "ci_high": score.ci_high,
            "n": score.n,
            "nonfinite": score.nonfinite,
            "tied": score.tied,
            "status": score.status,
            "reason": score.reason,
            "higher_is_better": score.higher_is_better,
        }
        for score in scores
    ]
    return encode_row_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))


def encode_table(shared: SubjectColumns, table: pa.Table) -> bytes:
    """Return the Parquet bytes of a table behind scores, preceded by the columns that identify the subject."""
    columns = {
        field.name: pa.repeat(pa.scalar(getattr(shared, field.name), ROW_SCHEMA.field(field.name).type), table.num_rows)
        for field in fields(shared)
    }
    return encode_row_table(pa.table(columns | dict(zip(table.column_names, table.columns, strict=True))))


def encode_row_table(table: pa.Table) -> bytes:
    """Return the Parquet bytes of a table of rows or details, with its digest in the footer."""
    return parquet_bytes(table)


def publish_rows(storage: Storage, path: str, data: bytes) -> None:
    """Publish a row file once; a second call with equal numbers changes nothing.

    Raises RowsConflictError, and keeps the existing file, if that file holds other numbers: two runs of the same
    specification have then given different results.
    """
    try:
        present = storage.read_bytes(path)
    except FileNotFoundError:
        storage.write_bytes(path, data)
        return
    if present == data or compared_numbers(present).equals(compared_numbers(data)):
        return
    message = (
        f"{storage.uri}/{path} holds other numbers than those just computed for the same checkpoint; after a change of "
        "the code or of a library in between, move that file away and run with --retry-failed, or compute the method "
        "again with --fresh"
    )
    _LOGGER.error("%s", message)
    raise RowsConflictError(message)
