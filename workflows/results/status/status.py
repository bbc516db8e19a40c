"""Where each trajectory of a sweep stands, from files alone: works from any machine, cluster gone or not."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sphere_core.foundation.durations import duration
from workflows.results.status.latest_scores import SHOWN_METRICS, LastScores
from workflows.store.plan import SweepPlan
from workflows.store.records import Failure
from workflows.store.state import StateName, SweepState, TrajectoryState

__all__ = [
    "MOST_LINES",
    "failures_table",
    "groups_table",
    "state_counts",
    "status_line",
    "status_panel",
    "status_records",
]

# More trajectories than this are shown by group; nobody reads ten thousand lines.
MOST_LINES = 200
_MOST_FAILURES = 50
_STYLES = {"failed": "red", "collapsed": "magenta", "running": "cyan", "done": "green", "paused": "yellow"}
_NAMES = tuple(SHOWN_METRICS.values())


def status_records(state: SweepState, scores: LastScores) -> list[dict[str, Any]]:
    """Return one plain record a trajectory, for JSON."""
    return [_record(found, scores) for found in state.trajectories]


def status_panel(plan: SweepPlan, state: SweepState, scores: LastScores) -> RenderableType:
    """Return the trajectories (by group where there are many), what failed, and a line of totals."""
    shown: Sequence[TrajectoryState] = state.trajectories
    parts: list[RenderableType] = []
    if len(shown) > MOST_LINES:
        parts.append(groups_table(state, title=plan.name))
        shown = [found for found in shown if found.state == "running"][:MOST_LINES]
    if shown:
        parts.append(_trajectories(shown, scores, title="running" if parts else plan.name))
    parts.append(Text(status_line(state)))
    stopped = [found for found in state.trajectories if found.stopped is not None]
    parts += [Text(f"{found.plan.id} {found.stopped.reason}") for found in stopped[:_MOST_FAILURES] if found.stopped]
    if state.failures:
        parts.append(failures_table(state.failures))
    return Group(*parts)


def groups_table(state: SweepState, *, title: str) -> Table:
    """Return one line for each model, stream and method: how many of its trajectories are in which state."""
    groups: dict[tuple[str, str, str], list[TrajectoryState]] = {}
    for found in state.trajectories:
        plan = found.plan
        stream = f"{plan.dataset}, {plan.order}, {plan.edits}"
        groups.setdefault((plan.model, stream, plan.title), []).append(found)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("model", "stream", "method", "trajectories", "edits", "states"):
        table.add_column(name, justify="right" if name in ("trajectories", "edits") else "left", overflow="fold")
    for (model, stream, method), members in groups.items():
        done, of = sum(found.edits_done for found in members), sum(found.plan.edits for found in members)
        table.add_row(model, stream, method, str(len(members)), f"{done}/{of}", state_counts(members))
    return table


def state_counts(found: Iterable[TrajectoryState]) -> str:
    """Return how many trajectories are in which state, as text."""
    counts = Counter(one.state for one in found)
    return ", ".join(f"{counts[name]} {name}" for name in get_args(StateName) if counts[name])


def failures_table(failures: Sequence[Failure]) -> Table:
    """Return what failed, each with its error; tracebacks stand in the files."""
    table = Table(title=f"failures ({len(failures)})", title_justify="left", title_style="bold red")
    for name in ("task", "after edits", "error"):
        table.add_column(name, overflow="fold")
    for failure in failures[:_MOST_FAILURES]:
        edits = "–" if failure.edits is None else str(failure.edits)
        table.add_row(failure.task, edits, Text(f"{failure.error}: {failure.message}"))
    if len(failures) > _MOST_FAILURES:
        table.add_row(f"and {len(failures) - _MOST_FAILURES} more", "", "")
    return table


def status_line(state: SweepState) -> str:
    """Return the totals of a sweep in one line: states, edits, rate, time left, last word."""
    edits = sum(found.edits_done for found in state.trajectories)
    of = sum(found.plan.edits for found in state.trajectories)
    missing = sum(len(found.missing) for found in state.trajectories) + len(state.bases_missing)
    newest = max((found.progress.at for found in state.trajectories if found.progress is not None), default=0.0)
    rate = sum(found.edits_per_second for found in state.trajectories if found.state == "running")
    todo = sum(found.plan.edits - found.edits_done for found in state.trajectories if found.is_open)
    parts = [state_counts(state.trajectories), f"{edits}/{of} edits"]
    if rate:
        parts.append(f"{rate:.1f} edits/s, edited in {duration(todo / rate)}")
    parts.append(f"{missing} scores of standing checkpoints missing")
    if newest:
        parts.append(f"last word {duration(time.time() - newest)} ago")
    return "; ".join(parts)


def _trajectories(shown: Sequence[TrajectoryState], scores: LastScores, *, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("trajectory", "model", "method", "seed", "state", "edits", "edits/s", "left", "scored", *_NAMES):
        left = name in ("trajectory", "model", "method", "state")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for found in shown:
        record = _record(found, scores)
        left = record["seconds_left"]
        table.add_row(
            record["id"],
            record["model"],
            record["method"],
            str(record["seed"]),
            Text(found.state, style=_STYLES.get(found.state, "")),
            f"{record['edits']}/{record['of']}",
            f"{record['edits_per_second']:.1f}" if record["edits_per_second"] else "–",
            duration(left) if left is not None else "–",
            f"{record['scored']}/{record['to_score']}",
            *(scores.of(found)[name].text() if name in record["scores"] else "–" for name in _NAMES),
        )
    return table


def _record(found: TrajectoryState, scores: LastScores) -> dict[str, Any]:
    plan = found.plan
    wanted = len(found.to_score) if not found.is_open else len(plan.wanted)
    rate = found.edits_per_second
    running = found.state == "running" and rate > 0
    return {
        "id": plan.id,
        "model": plan.model,
        "method": plan.title,
        "dataset": plan.dataset,
        "order": plan.order,
        "seed": plan.seed,
        "state": found.state,
        "edits": found.edits_done,
        "of": plan.edits,
        "edits_per_second": rate,
        "seconds_left": round((plan.edits - found.edits_done) / rate, 1) if running else None,
        "checkpoints": list(found.published),
        "scored": len(found.to_score) * len(plan.evaluations) - len(found.missing),
        "to_score": wanted * len(plan.evaluations),
        "scores": {
            name: {"edits": last.edits, "value": last.value, "collapsed": last.collapsed}
            for name, last in scores.of(found).items()
        },
        "error": None if found.error is None else found.error.as_json(),
        "stopped": None if found.stopped is None else found.stopped.reason,
    }
