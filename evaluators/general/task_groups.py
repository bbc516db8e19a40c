"""Scores over several tasks: the groups lm-eval defines, and the mean of what one entry of `tasks` stands for."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lm_eval.api.group import Group
from lm_eval.api.metrics import aggregate_subtask_metrics

from evaluators.base import Health, Score, make_score, total_health
from evaluators.statistics import normal_interval

__all__ = ["TaskGroup", "combined", "group_rows"]


@dataclass(frozen=True)
class TaskGroup:
    """A group of tasks; `metrics` are (metric, filters or None for all, whether larger tasks count more)."""

    name: str
    tasks: tuple[str, ...]
    metrics: tuple[tuple[str, tuple[str, ...] | None, bool], ...]

    @classmethod
    def of(cls, group: Group, tasks: Sequence[str]) -> "TaskGroup":
        """Return the group as the harness read it, over the named tasks."""
        metrics = tuple(
            (item.metric, None if item.filter_list is None else tuple(item.filter_list), bool(item.weight_by_size))
            for item in group.aggregate_metric_list or ()
        )
        return cls(group.name, tuple(tasks), metrics)


def group_rows(group: TaskGroup, rows: Mapping[str, Sequence[Score]]) -> Iterator[Score]:
    """Yield a group's aggregated metrics, values as the harness gives them, from the rows of its tasks by name."""
    for metric, filters, by_size in group.metrics:
        parts: dict[str, list[Score]] = {}
        for task in group.tasks:
            for score in rows.get(task, ()):
                name, _, key = score.metric.partition(",")
                if name == metric and (filters is None or (key or "none") in filters):
                    parts.setdefault(score.metric, []).append(score)
        for name in sorted(parts):
            yield combined(name, group.name, parts[name], by_size=by_size)


def combined(metric: str, task: str, parts: Sequence[Score], *, by_size: bool) -> Score:
    """Return the mean of several tasks' scores, plain or weighted by their documents.

    stderr = sqrt(sum (w_i se_i)^2), the tasks' documents being independent; the interval is the normal one. A failed
    part makes it failed, a collapsed part collapsed.
    """
    sizes = [score.n if by_size else 1 for score in parts]
    failed = [score for score in parts if score.status == "failed"]
    n = sum(score.n for score in parts)
    health = total_health([Health(score.n, score.nonfinite, score.tied) for score in parts])
    better = parts[0].higher_is_better if len({score.higher_is_better for score in parts}) == 1 else None
    if failed:
        return Score(
            metric=metric,
            protocol=parts[0].protocol,
            value=None,
            stderr=None,
            n=n,
            nonfinite=health.nonfinite,
            tied=health.tied,
            status="failed",
            higher_is_better=better,
            task=task,
            reason=f"failed: {', '.join(str(score.task) for score in failed)}",
        )
    values = [math.nan if score.value is None else score.value for score in parts]
    errors = [score.stderr for score in parts]
    value = float(aggregate_subtask_metrics(values, sizes, True))
    stderr = None
    if None not in errors:
        stderr = math.hypot(*(size * (error or 0.0) for size, error in zip(sizes, errors, strict=True))) / sum(sizes)
    return make_score(
        metric,
        parts[0].protocol,
        value,
        stderr,
        n=n,
        health=health,
        part_collapsed=any(score.status == "collapsed" for score in parts),
        higher_is_better=better,
        task=task,
        interval=None if stderr is None else normal_interval(value, stderr),
    )
