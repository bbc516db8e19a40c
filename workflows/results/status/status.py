"""The state of each trajectory of a sweep, from files alone: works on any machine, without a cluster."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, get_args

from rich.console import Group, RenderableType
from rich.text import Text

from sphere_core.foundation.durations import duration
from workflows.results.status.latest_scores import SHOWN_METRICS, LastScores
from workflows.store.identifiers import prefix_length
from workflows.store.plan import SweepPlan
from workflows.store.records import Failure
from workflows.store.root_owner import earlier_line
from workflows.store.state import StateName, SweepState, TrajectoryState
from workflows.terminal.table import Cell, Column, Id, Styled, TextTable

__all__ = [
    "MOST_LINES",
    "failures_table",
    "groups_table",
    "state_counts",
    "status_line",
    "status_panel",
    "status_records",
]

# More trajectories than this are shown by group, because ten thousand lines cannot be read.
MOST_LINES = 200
_MOST_FAILURES = 50
# A batch that has not moved for this long is shown with how long it has not.
_STILL_SECONDS = 60.0
_STYLES = {"failed": "red", "collapsed": "magenta", "running": "cyan", "done": "green", "paused": "yellow"}
_NAMES = tuple(SHOWN_METRICS.values())


def status_records(state: SweepState, scores: LastScores) -> list[dict[str, Any]]:
    """Return one plain record per trajectory, for JSON."""
    return [_record(found, scores) for found in state.trajectories]


def status_panel(plan: SweepPlan, state: SweepState, scores: LastScores, *, wide: bool = False) -> RenderableType:
    """Return the trajectories (grouped if there are many), the failures, a line of totals, and what
    is stored of an earlier plan."""
    shown: Sequence[TrajectoryState] = state.trajectories
    digits = prefix_length([found.plan.id for found in state.trajectories])
    parts: list[RenderableType] = []
    if len(shown) > MOST_LINES:
        parts.append(replace(groups_table(state, title=plan.name), wide=wide))
        shown = [found for found in shown if found.state == "running"][:MOST_LINES]
    if shown:
        title = "running" if parts else plan.name
        parts.append(replace(_trajectories(shown, scores, title=title, digits=digits), wide=wide))
    parts.append(Text(status_line(state)))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in scores.weak_starts(plan.trajectories)]
    if plan.overrides:
        parts.append(Text(f"values in place of the sweep file's: {plan.set_options}"))
    now = time.time()
    parts += [Text(f"{one.title}: {one.within}, {duration(now - one.at)} ago") for one in state.builds]
    if state.earlier:
        parts.append(Text(earlier_line(state.earlier)))
    stopped = [found for found in state.trajectories if found.stopped is not None]
    if stopped:
        columns = [Column("trajectory"), Column("why", prose=True)]
        reasons: list[list[Cell]] = [
            [Id(found.plan.id, found.plan.id[:digits]), found.stopped.reason] for found in stopped if found.stopped
        ]
        parts.append(TextTable(columns, reasons[:_MOST_FAILURES], f"stopped by the watchdog ({len(stopped)})", wide))
    if state.failures:
        parts.append(replace(failures_table(state.failures), wide=wide))
    return Group(*parts)


def groups_table(state: SweepState, *, title: str) -> TextTable:
    """Return one line for each model, stream and method: how many of its trajectories are in which state."""
    groups: dict[tuple[str, str, str], list[TrajectoryState]] = {}
    for found in state.trajectories:
        plan = found.plan
        stream = f"{plan.dataset}, {plan.order}, {plan.edits}"
        groups.setdefault((plan.model, stream, plan.title), []).append(found)
    columns = [
        Column("model", shared=True),
        Column("stream", shared=True, prose=True),
        Column("method"),
        Column("trajectories", 1, right=True, shared=True),
        Column("edits", right=True),
        Column("states", prose=True),
    ]
    rows: list[list[Cell]] = []
    for (model, stream, method), members in groups.items():
        done, of = sum(found.edits_done for found in members), sum(found.plan.length for found in members)
        unit = "" if members[0].plan.parent is None else " steps"
        rows.append([model, stream, method, len(members), f"{done}/{of}{unit}", state_counts(members)])
    return TextTable(columns, rows, title)


def state_counts(found: Iterable[TrajectoryState]) -> str:
    """Return how many trajectories are in which state, as text."""
    counts = Counter(one.state for one in found)
    return ", ".join(f"{counts[name]} {name}" for name in get_args(StateName) if counts[name])


def failures_table(failures: Sequence[Failure]) -> TextTable:
    """Return what failed, each with its error; tracebacks are in the files."""
    columns = [Column("task", prose=True), Column("after edits", 1, right=True), Column("error", prose=True)]
    rows = [[one.task, one.edits, f"{one.error}: {one.message}"] for one in failures[:_MOST_FAILURES]]
    more = f", {_MOST_FAILURES} of them shown" if len(failures) > _MOST_FAILURES else ""
    return TextTable(columns, rows, f"failures ({len(failures)}{more})")


def status_line(state: SweepState) -> str:
    """Return the totals of a sweep in one line: states, edits, rate, time left, last progress."""
    own = [found for found in state.trajectories if found.plan.parent is None]
    edits, of = state.edits_done, sum(found.plan.edits for found in own)
    missing = sum(len(found.missing) for found in state.trajectories) + len(state.bases_missing)
    newest = max((found.progress.at for found in state.trajectories if found.progress is not None), default=0.0)
    rate = sum(found.edits_per_second for found in own if found.state == "running")
    todo = sum(found.plan.edits - found.edits_done for found in own if found.is_open)
    parts = [state_counts(state.trajectories), f"{edits}/{of} edits"]
    if rate:
        parts.append(f"{rate:.1f} edits/s, all edited in {duration(todo / rate)}")
    parts.append(f"{missing} scores missing")
    if newest:
        parts.append(f"last progress {duration(time.time() - newest)} ago")
    return "; ".join(parts)


_COLUMNS = (
    Column("trajectory"),
    Column("model", shared=True),
    Column("method"),
    Column("seed", 1, right=True),
    Column("state"),
    Column("edits", right=True),
    Column("edits/s", 7, right=True),
    Column("left", 2, right=True),
    Column("in hand", 8, prose=True),
    Column("scored", 4, right=True),
    Column("score", 3, right=True),
    Column("general", 5, right=True),
    Column("HE drift", 6, right=True),
)


def _trajectories(shown: Sequence[TrajectoryState], scores: LastScores, *, title: str, digits: int) -> TextTable:
    return TextTable(_COLUMNS, [_row(found, scores, digits) for found in shown], title)


def _row(found: TrajectoryState, scores: LastScores, digits: int) -> list[Cell]:
    record, newest = _record(found, scores), scores.of(found)
    left, rate = record["seconds_left"], record["edits_per_second"]
    return [
        Id(record["id"], record["id"][:digits]),
        record["model"],
        record["method"],
        record["seed"],
        Styled(found.state, _STYLES.get(found.state, "")),
        f"{record['edits']}/{record['of']}" + ("" if found.plan.parent is None else " steps"),
        f"{rate:.1f}" if rate else None,
        duration(left) if left is not None else None,
        _in_hand(found),
        f"{record['scored']}/{record['to_score']}",
        *(newest[name].measured() if name in newest else None for name in _NAMES),
    ]


def _in_hand(found: TrajectoryState) -> str | None:
    """Return how far the batch under way is, and for how long it has not moved if that is long."""
    said = found.progress
    if said is None or found.state != "running":
        return None
    still = said.at - said.moved if said.moved else 0.0
    parts = [str(said.within)] if said.within is not None else []
    parts += [f"no progress for {duration(still)}"] if still >= _STILL_SECONDS else []
    return ", ".join(parts) or None


def _record(found: TrajectoryState, scores: LastScores) -> dict[str, Any]:
    plan = found.plan
    wanted = len(found.to_score) if not found.is_open else len(plan.wanted)
    rate = found.edits_per_second
    running = found.state == "running" and rate > 0
    within = found.progress.within if found.progress is not None and found.state == "running" else None
    return {
        "id": plan.id,
        "model": plan.model,
        "method": plan.title,
        "dataset": plan.dataset,
        "stream_order": plan.order,
        "seed": plan.seed,
        "state": found.state,
        "edits": found.edits_done,
        "of": plan.length,
        "edits_per_second": rate,
        "in_hand": None if within is None else asdict(within),
        "seconds_left": round((plan.length - found.edits_done) / rate, 1) if running else None,
        "checkpoints": list(found.published),
        "scored": len(found.to_score) * len(plan.evaluations) - len(found.missing),
        "to_score": wanted * len(plan.evaluations),
        "scores": {
            name: {"edits": last.edits, "value": last.value, "collapsed": last.collapsed}
            for name, last in scores.of(found).items()
        },
        "parent": None if plan.parent is None else plan.parent.model_dump(),
        "error": None if found.error is None else found.error.as_json(),
        "stopped": None if found.stopped is None else found.stopped.reason,
    }
