"""The schema of every row file. Long format: a new metric is a new row, never a new column."""

import pyarrow as pa

__all__ = ["ROW_SCHEMA", "SCHEMA_VERSION"]

SCHEMA_VERSION = 3

_COLUMNS = [
    ("schema_version", pa.int32(), False),
    # Which weights were scored. The unedited model has no trajectory, method or seed, and 0 edits.
    ("trajectory_id", pa.string(), True),
    ("model", pa.string(), False),
    ("model_digest", pa.string(), False),
    ("dtype", pa.string(), False),
    ("method", pa.string(), True),
    ("editor", pa.string(), True),
    ("regularizer", pa.string(), True),
    ("dataset", pa.string(), True),
    ("order", pa.string(), True),
    ("seed", pa.int64(), True),
    ("batch_size", pa.int64(), True),
    ("edits", pa.int64(), False),
    ("stream_digest", pa.string(), True),
    ("weights_digest", pa.string(), False),
    # By what, and under which protocol.
    ("evaluator", pa.string(), False),
    ("evaluation_id", pa.string(), False),
    ("metric", pa.string(), False),
    ("protocol", pa.string(), False),
    ("site", pa.string(), True),
    ("task", pa.string(), True),
    # The number, its spread, and the answers behind it.
    ("value", pa.float64(), True),
    ("stderr", pa.float64(), True),
    ("ci_low", pa.float64(), True),
    ("ci_high", pa.float64(), True),
    ("n", pa.int64(), False),
    ("nonfinite", pa.int64(), False),
    ("tied", pa.int64(), False),
    ("status", pa.string(), False),
    ("reason", pa.string(), True),
    ("higher_is_better", pa.bool_(), True),
]

ROW_SCHEMA = pa.schema([pa.field(name, kind, nullable=nullable) for name, kind, nullable in _COLUMNS])
