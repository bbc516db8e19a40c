"""The schema of every row file. Long format: a new metric is a new row, never a new column.

A reader of an older release finds its own columns by name and leaves out the others; a column that it lacks is null.
"""

import pyarrow as pa

__all__ = ["COLUMN_DESCRIPTIONS", "EVALUATION_VERSION", "RENAMED", "ROW_SCHEMA", "SCHEMA_VERSION"]

SCHEMA_VERSION = 5
# Part of every evaluation's id: raised only if a change of the schema changes numbers.
EVALUATION_VERSION = 3
# Columns of rows and details by the names they had before version 4: SQL reserves those.
RENAMED = {"order": "stream_order", "group": "probe_group"}

# Name, type, nullable, description.
_COLUMNS = [
    ("schema_version", pa.int32(), False, "Version of this schema; 5 today"),
    # Which weights were scored.
    (
        "trajectory_id",
        pa.string(),
        True,
        "Hash of everything that can change the trajectory's numbers; null for the unedited model",
    ),
    ("model", pa.string(), False, "The model's name in tables: `name` of the sweep file, or the last part of `source`"),
    ("model_digest", pa.string(), False, "Digest of the model's config, weights and tokenizer files"),
    ("dtype", pa.string(), False, "The network's dtype"),
    (
        "method",
        pa.string(),
        True,
        "Editor and regularizers, joined by `+`, without labels; null for the unedited model",
    ),
    ("editor", pa.string(), True, "The method's editor"),
    ("regularizer", pa.string(), True, "The method's regularizers, joined by `+`; null without one"),
    ("dataset", pa.string(), True, "The data set's name in tables"),
    (
        "stream_order",
        pa.string(),
        True,
        "The order of the stream, such as `shuffled` or `dispersed-relation`; `order` before version 4",
    ),
    ("seed", pa.int64(), True, "Seed of order and context templates"),
    ("batch_size", pa.int64(), True, "Edits written together"),
    ("edits", pa.int64(), False, "Edits before this checkpoint; 0 for the unedited model"),
    ("steps", pa.int64(), True, "Optimiser steps of a fine-tuning since these edits; null without one"),
    ("stream_digest", pa.string(), True, "Digest of the ordered requests"),
    ("weights_digest", pa.string(), False, "Digest of the edited weights that were scored"),
    # By what, and under which protocol.
    ("evaluator", pa.string(), False, "`edit_quality`, `general` or `geometry`"),
    (
        "evaluation_id",
        pa.string(),
        False,
        "Hash of the evaluator's settings, data and versions; rows of equal id are comparable",
    ),
    (
        "metric",
        pa.string(),
        False,
        "What was measured, such as `efficacy`, `acc` or `he_drift` (see [Evaluation](../evaluation.md))",
    ),
    (
        "protocol",
        pa.string(),
        False,
        "Under which rules, such as `argmax`; numbers of different protocols are not comparable",
    ),
    ("site", pa.string(), True, "Edited weight matrix, for geometry; null: mean over the sites"),
    ("task", pa.string(), True, "Task or suite, for general ability"),
    # The number, its spread, and the answers behind it.
    ("value", pa.float64(), True, "The number; null unless `status` is `ok`"),
    ("stderr", pa.float64(), True, "Standard error of the value"),
    ("ci_low", pa.float64(), True, "Lower end of the 95 % confidence interval"),
    ("ci_high", pa.float64(), True, "Upper end of the 95 % confidence interval"),
    ("n", pa.int64(), False, "Number of items behind the value: records, documents, or directions"),
    ("nonfinite", pa.int64(), False, "How many of these had a logit that is not finite"),
    ("tied", pa.int64(), False, "How many of these had tied best answers"),
    (
        "status",
        pa.string(),
        False,
        "`ok`, `collapsed` (the model gives no usable answers; a result) or `failed` (the evaluator raised)",
    ),
    ("reason", pa.string(), True, "Why the row has no value"),
    ("higher_is_better", pa.bool_(), True, "Direction of the metric; null where neither direction is better"),
]

ROW_SCHEMA = pa.schema([pa.field(name, kind, nullable=nullable) for name, kind, nullable, _ in _COLUMNS])
# Kept out of the schema: its metadata would be part of every file's bytes.
COLUMN_DESCRIPTIONS = {name: description for name, _, _, description in _COLUMNS}
