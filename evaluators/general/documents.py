"""What a model answered to each document of a task: the table behind every score of general ability."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from evaluators.base import Health
from evaluators.general.guarded_lm import RowCounts

__all__ = ["DOCUMENTS_SCHEMA", "documents_health", "documents_table"]

_PER_METRIC = pa.map_(pa.string(), pa.float64())
DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("filter", pa.string(), nullable=False),
        pa.field("doc_id", pa.int64(), nullable=False),
        # Of the document and of all that was asked about it: only equal ones may be compared.
        pa.field("doc_hash", pa.string(), nullable=False),
        pa.field("target", pa.string()),
        # One number a metric; of a metric that is a ratio of sums, the numerator here and the denominator in weights.
        pa.field("metrics", _PER_METRIC, nullable=False),
        pa.field("weights", _PER_METRIC, nullable=False),
        # Of choices and whole texts.
        pa.field("choice", pa.int32()),
        pa.field("loglikelihoods", pa.list_(pa.float64())),
        # Of generated texts.
        pa.field("text_hash", pa.string()),
        pa.field("text_length", pa.int32()),
        # Null where it cannot be said of this document: some generated text of the task met a non-finite logit.
        pa.field("finite", pa.bool_()),
        pa.field("tied", pa.bool_(), nullable=False),
    ]
)


def documents_table(task: str, samples: Sequence[Mapping[str, Any]], counts: RowCounts) -> pa.Table:
    """Return one row per document and filter from the harness's samples, in their order.

    `counts` are those of the model while it answered; a generated text does not show that its logits were not finite.
    """
    return pa.Table.from_pylist([_row(task, sample, counts) for sample in samples], schema=DOCUMENTS_SCHEMA)


def documents_health(documents: pa.Table, counts: RowCounts) -> Health:
    """Count documents whose likelihoods are not finite, or whose best choice is shared.

    The rows that the model was seen to answer with non-finite or flat logits count too, up to the number of
    documents: a generated text shows neither, and equal logits tie only choices of equal length.
    """
    n = documents.num_rows
    finite = documents["finite"].to_pylist()
    tied = sum(documents["tied"].to_pylist())
    return Health(n, min(n, max(finite.count(False), counts.nonfinite)), min(n, max(tied, counts.flat)))


def _row(task: str, sample: Mapping[str, Any], counts: RowCounts) -> dict[str, object]:
    likelihoods = _likelihoods(sample)
    row: dict[str, object] = {
        "task": task,
        "filter": sample["filter"],
        "doc_id": int(sample["doc_id"]),
        "doc_hash": _hash(f"{sample['doc_hash']}{sample['prompt_hash']}{sample['target_hash']}"),
        "target": None if sample["target"] is None else str(sample["target"]),
        "loglikelihoods": likelihoods,
        "tied": False,
    }
    numbers, weights = {}, {}
    for metric in sample["metrics"]:
        value = sample[metric]
        if isinstance(value, int | float | np.number):
            numbers[metric] = float(value)
        elif isinstance(value, tuple) and isinstance(value[0], float) and isinstance(value[1], int | float):
            # A log-likelihood with the words or bytes it is spread over; a pair of labels begins with an int.
            numbers[metric], weights[metric] = float(value[0]), float(value[1])
    row |= {"metrics": list(numbers.items()), "weights": list(weights.items())}
    if likelihoods is None:
        text = _text(sample)
        row |= {"text_hash": _hash(text), "text_length": len(text)}
        return row | {"finite": True if counts.nonfinite == 0 else None}
    finite = all(math.isfinite(value) for value in likelihoods)
    row["finite"] = finite
    if len(likelihoods) > 1:
        row["choice"] = int(np.argmax(likelihoods))
        row["tied"] = finite and likelihoods.count(max(likelihoods)) > 1
    return row


def _likelihoods(sample: Mapping[str, Any]) -> list[float] | None:
    """Return the log-likelihoods of a document's choices or text, or None for a generated text."""
    found = sample["filtered_resps"]
    if isinstance(found[0], tuple | list) and len(found[0]) == 2 and not isinstance(found[0][0], str):
        return [float(item[0]) for item in found]
    if isinstance(found[0], float):
        return [float(item) for item in found]
    return None


def _text(sample: Mapping[str, Any]) -> str:
    first = sample["filtered_resps"][0]
    return str(first[0] if isinstance(first, list) else first).strip()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
