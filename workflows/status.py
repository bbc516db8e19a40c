"""Where each trajectory of a sweep stands, from files alone: works from any machine, cluster gone or not."""

import time
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sphere_core.storage import Storage
from workflows.plan import SweepPlan
from workflows.row_files import read_rows
from workflows.state import SweepFiles, SweepState, TrajectoryState, derive_state, scan

__all__ = ["failures_table", "status_panel"]

_STYLES = {"failed": "red", "collapsed": "magenta", "running": "cyan", "done": "green", "stopped": "yellow"}


def status_panel(storage: Storage, plan: SweepPlan) -> RenderableType:
    """Return a table of all trajectories, the failures below it, and a line of totals."""
    files = scan(storage)
    state = derive_state(storage, plan, files)
    scores = _last_scores(storage, plan, files)
    table = Table(title=plan.name, title_justify="left", box=SIMPLE_HEAD)
    for name in ("trajectory", "model", "method", "seed", "state", "edits", "edits/s", "scored", "last score"):
        right = name in ("seed", "edits", "edits/s", "scored")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for found in state.trajectories:
        table.add_row(*_cells(found, scores.get(found.plan.id, "–")))
    parts: list[RenderableType] = [table, Text(_totals(state))]
    if state.failures:
        parts.append(failures_table(state.failures))
    return Group(*parts)


def failures_table(failures: list[dict[str, Any]]) -> Table:
    """Return what failed, each with its error; tracebacks stand in the files."""
    table = Table(title=f"failures ({len(failures)})", title_justify="left", title_style="bold red")
    for name in ("task", "after edits", "error"):
        table.add_column(name, overflow="fold")
    for failure in failures:
        edits = failure.get("edits")
        message = Text(f"{failure.get('error')}: {failure.get('message')}")
        table.add_row(str(failure.get("task")), "–" if edits is None else str(edits), message)
    return table


def _cells(found: TrajectoryState, score: str) -> list[str | Text]:
    plan = found.plan
    rate = found.progress.get("edits_per_second")
    wanted = (len(found.to_score) if found.is_edited else len(plan.wanted)) * len(plan.evaluations)
    scored = len(found.to_score) * len(plan.evaluations) - len(found.missing)
    return [
        plan.id,
        plan.model,
        plan.title,
        str(plan.seed),
        Text(found.state, style=_STYLES.get(found.state, "")),
        f"{found.edits_done}/{plan.edits}",
        "–" if not rate else f"{rate:.1f}",
        f"{scored}/{wanted}",
        score,
    ]


def _last_scores(storage: Storage, plan: SweepPlan, files: SweepFiles) -> dict[str, str]:
    """Return each trajectory's harmonic score (argmax protocol) at its furthest scored checkpoint."""
    rows = read_rows(storage, plan, files).select(
        ["trajectory_id", "edits", "metric", "protocol", "value", "status", "site"]
    )
    last: dict[str, tuple[int, str]] = {}
    for row in rows.to_pylist():
        if row["metric"] != "score" or row["protocol"] != "argmax" or row["trajectory_id"] is None:
            continue
        if row["edits"] >= last.get(row["trajectory_id"], (0, ""))[0]:
            value = "collapsed" if row["status"] == "collapsed" else f"{row['value']:.3f}"
            last[row["trajectory_id"]] = (row["edits"], f"{value} at {row['edits']}")
    return {key: text for key, (_, text) in last.items()}


def _totals(state: SweepState) -> str:
    names = [found.state for found in state.trajectories]
    counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
    edits = sum(found.edits_done for found in state.trajectories)
    of = sum(found.plan.edits for found in state.trajectories)
    missing = sum(len(found.missing) for found in state.trajectories) + len(state.bases_missing)
    newest = max((float(found.progress.get("at", 0)) for found in state.trajectories), default=0)
    heard = f"; last word {time.time() - newest:.0f} s ago" if newest else ""
    return f"{counts}; {edits}/{of} edits; {missing} scores of standing checkpoints missing{heard}"
