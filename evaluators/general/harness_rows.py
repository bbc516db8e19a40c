"""Rows of one task: its metrics as the harness computes them, with standard errors, intervals and health."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from lm_eval.api.task import Task

from evaluators.base import Score, make_score
from evaluators.general.documents import documents_health
from evaluators.general.guarded_lm import RowCounts
from evaluators.general.prepared_task import PreparedTask
from evaluators.statistics import Estimate, estimate_mean, estimate_ratio

__all__ = ["failed_rows", "task_rows"]

# How the harness turns a mean log-likelihood per document, word or byte into what it reports.
_OF_LOGLIKELIHOOD: tuple[Callable[[float], float], ...] = (
    lambda mean: math.exp(-mean),
    lambda mean: -mean / math.log(2),
)


def task_rows(
    name: str, protocol: str, task: PreparedTask, results: Mapping[str, Any], documents: pa.Table, counts: RowCounts
) -> Iterator[Score]:
    """Yield one row a metric, the task's first metric first, then what its answers look like.

    `results` are the harness's for this task, `documents` the table of its answers. `top_answer_share` is the share of
    the most frequent answer, `empty_share` that of generated texts with nothing in them; both in [0, 1].
    """
    filters = documents["filter"].to_pylist()
    parts = {key: documents.filter(pa.array([name == key for name in filters])) for key in dict.fromkeys(filters)}
    better = task.higher_is_better()
    for metric, key in _metric_keys(task, results):
        estimate = _estimate(float(results[f"{metric},{key}"]), metric, parts[key])
        yield make_score(
            row_name(metric, key),
            protocol,
            estimate.value,
            estimate.stderr,
            n=parts[key].num_rows,
            health=documents_health(parts[key], counts),
            higher_is_better=better.get(metric),
            task=name,
            interval=estimate.interval,
        )
    first = parts[next(iter(parts))]
    for metric, outcomes in _habits(task, first).items():
        estimate = estimate_mean(outcomes)
        yield make_score(
            metric,
            protocol,
            estimate.value,
            estimate.stderr,
            n=first.num_rows,
            health=documents_health(first, counts),
            higher_is_better=None,
            task=name,
            interval=estimate.interval,
        )


def failed_rows(name: str, protocol: str, task: Task, reason: str, *, n: int) -> list[Score]:
    """Return a row without a number for each metric and filter that a task of `n` documents declares."""
    better = task.higher_is_better()
    filters = [item.name for item in getattr(task, "_filters", [])] or ["none"]
    return [
        Score(
            metric=row_name(metric, key),
            protocol=protocol,
            value=None,
            stderr=None,
            n=n,
            nonfinite=0,
            tied=0,
            status="failed",
            higher_is_better=better[metric],
            task=name,
            reason=reason,
        )
        for metric in better
        for key in filters
    ]


def row_name(metric: str, key: str) -> str:
    """Return what a metric is called in rows: with its filter, where the task names one."""
    return metric if key == "none" else f"{metric},{key}"


def _metric_keys(task: PreparedTask, results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (metric, filter) of each result; metrics in the order of the task's YAML."""
    keys = []
    for key, value in results.items():
        metric, comma, chosen = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float | np.number):
            keys.append((metric, chosen))
    order = list(task.higher_is_better())
    return sorted(keys, key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _estimate(value: float, metric: str, documents: pa.Table) -> Estimate:
    """Return the harness's value with its spread, where the value is seen to be a mean or a ratio of the documents'."""
    nothing = Estimate(value, None, None)
    numbers = [dict(item).get(metric) for item in documents["metrics"].to_pylist()]
    weights = [dict(item).get(metric) for item in documents["weights"].to_pylist()]
    if None in numbers or not numbers:
        return nothing
    sample, weighted = np.array(numbers, dtype=np.float64), None not in weights
    found = estimate_ratio(sample, np.array(weights, dtype=np.float64)) if weighted else estimate_mean(sample)
    if not weighted and math.isclose(value, found.value):
        return Estimate(value, found.stderr, found.interval)
    for transform in _OF_LOGLIKELIHOOD:
        if found.interval is not None and math.isclose(value, _finite(transform, found.value), rel_tol=1e-6):
            low, high = (_finite(transform, bound) for bound in reversed(found.interval))
            # To first order: the slope of exp(-m) is its value, that of -m / ln 2 is constant.
            slope = value if transform is _OF_LOGLIKELIHOOD[0] else 1 / math.log(2)
            return Estimate(value, None if found.stderr is None else slope * found.stderr, (low, high))
    return nothing


def _finite(transform: Callable[[float], float], value: float) -> float:
    try:
        return transform(value)
    except OverflowError:
        return math.inf


def _habits(task: PreparedTask, documents: pa.Table) -> dict[str, list[float]]:
    """Return zeros and ones a document: whether it got the most frequent answer, and whether it was left empty."""
    if task.OUTPUT_TYPE not in ("multiple_choice", "generate_until"):
        return {}
    generated = task.OUTPUT_TYPE == "generate_until"
    answers = documents["text_hash" if generated else "choice"].to_pylist()
    top = Counter(answers).most_common(1)[0][0]
    found = {"top_answer_share": [float(answer == top) for answer in answers]}
    if generated:
        found["empty_share"] = [float(length == 0) for length in documents["text_length"].to_pylist()]
    return found
