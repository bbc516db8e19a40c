"""What is kept of a scored task, and the key under which equal weights find it again."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa

from evaluators.base import KeptResults, Score
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.parquet import parquet_bytes, parquet_table

__all__ = ["TaskResult", "keep_result", "kept_result", "result_key"]

_SCORES = b"scores"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskResult:
    """One task's rows and the table of its documents."""

    scores: tuple[Score, ...]
    documents: pa.Table


def result_key(parts: Mapping[str, object]) -> str:
    """Return the key of a result; `parts` must name everything that can change it, and nothing by a mere name."""
    return fingerprint(dict(parts))


def kept_result(kept: KeptResults | None, key: str) -> TaskResult | None:
    """Return the result kept under a key, or None; None also if it cannot be read."""
    data = None if kept is None else kept.read(key)
    if data is None:
        return None
    try:
        table = parquet_table(data)
        records = json.loads((table.schema.metadata or {})[_SCORES])
        return TaskResult(tuple(Score(**record) for record in records), table.replace_schema_metadata(None))
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        _LOGGER.warning("kept result %s cannot be read and is computed again: %s", key, error)
        return None


def keep_result(kept: KeptResults | None, key: str, result: TaskResult) -> None:
    """Keep a result as one Parquet file: its documents, with the rows as metadata; floats survive exactly."""
    if kept is None:
        return
    scores = json.dumps([asdict(score) for score in result.scores]).encode()
    kept.write(key, parquet_bytes(result.documents.replace_schema_metadata({_SCORES: scores})))
