"""What a run shows while it works: on a terminal who does what, in a log lines that become rarer."""

import io
import re

import pytest
from rich.console import Console
from store_parts import QUALITY, base, trajectory

from workflows.driver.display import SweepDisplay, View
from workflows.driver.executor import Worker
from workflows.driver.tracking import Counts
from workflows.replicas.tasks import ReplicaProgress, ScoreTask, TrajectoryTask
from workflows.sweeps.expand import Sweep
from workflows.terminal.step_line import seconds_between_lines

COUNTS = Counts(trajectories=4, trajectories_done=1, edits=400, edits_done=130, scores=28, scores_done=4, failures=2)


@pytest.fixture
def doing(sweep: Sweep) -> dict[Worker, ReplicaProgress]:
    plan = trajectory("memit", 0, model="Meta-Llama-3-8B-Instruct", title="alphaedit+sphere, strength 0.8")
    spec = next(iter(sweep.specs.values()))
    editing = TrajectoryTask(plan, spec, 1, None)
    scoring = ScoreTask(plan, spec, 4, QUALITY, {})
    unedited = ScoreTask(base(QUALITY, 0), spec, 0, QUALITY, {})
    return {
        Worker(3, "evaluator"): ReplicaProgress.at(scoring),
        Worker(1, "replica"): ReplicaProgress.at(editing, 6, 8),
        Worker(2, "replica"): ReplicaProgress.at(unedited, waits_for="a lease"),
        Worker(4, "replica"): ReplicaProgress(),
    }


def shown(doing: dict[Worker, ReplicaProgress], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with SweepDisplay(console) as display:
        display.update(View(COUNTS, "editing and scoring", 12.34, 95.0, doing))
    # Without what moves the cursor.
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_workers_are_shown_by_what_they_do(doing: dict[Worker, ReplicaProgress], width: int) -> None:
    text = " ".join(shown(doing, width).split())
    for part in (
        "replica 1 editing Meta-Llama-3-8B-Instruct alphaedit+sphere, strength 0.8 seed 0",
        "6/8",
        "edit quality of m, unedited, waiting for a lease",
        "idle workers: 1",
        "12.3 edits/s; elapsed 0 s, left 1 min 35 s; failures 2",
        "130/400",
    ):
        assert part in text or width == 80
    assert all(word in text for word in ("evaluator", "alphaedit+sphere,", "seed", "unedited,", "elapsed", "failures"))
    assert max(len(line.rstrip()) for line in shown(doing, width).splitlines()) <= width


def lines_of(hours: float, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines of a log over so many hours, asked for an update every second."""
    now = [0.0]
    monkeypatch.setattr("workflows.driver.display.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=10_000, soft_wrap=True)
    with SweepDisplay(console) as display:
        while now[0] < 3600 * hours:
            display.update(View(COUNTS, "editing", 1.0, None, {}))
            now[0] += 1.0
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_day_is_a_few_hundred_lines_and_its_first_minute_a_dozen(monkeypatch: pytest.MonkeyPatch) -> None:
    day = lines_of(24, monkeypatch)
    assert 200 < len(day) < 500
    assert len(lines_of(1 / 60, monkeypatch)) == 12
    assert day[0].startswith("0 s: editing; trajectories 1/4, edits 130/400 (1.0/s)")


def test_a_log_is_never_silent_for_more_than_ten_minutes() -> None:
    pauses = [seconds_between_lines(elapsed) for elapsed in range(0, 10**6, 1000)]
    assert (pauses[0], pauses[-1]) == (5.0, 600.0)
    assert pauses == sorted(pauses)
