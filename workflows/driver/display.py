"""Show the progress of a sweep: a live panel on a terminal, a plain line every few seconds elsewhere."""

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sphere_core.foundation.durations import duration
from workflows.driver.executor import Worker
from workflows.driver.tracking import Counts
from workflows.replicas.tasks import ReplicaProgress
from workflows.terminal.console import say
from workflows.terminal.step_line import seconds_between_lines
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["Display", "SweepDisplay", "View"]


@dataclass(frozen=True)
class View:
    """Counts, the current stage, the rate, the time left, and each worker's activity."""

    counts: Counts
    stage: str
    edits_per_second: float
    seconds_left: float | None
    doing: dict[Worker, ReplicaProgress]


class Display(Protocol):
    """Shows the progress of a sweep."""

    def update(self, view: View) -> None:
        """Show it."""
        ...


_BAR = 24
# Steps under way that one line of a log names.
_MOST_STEPS = 3
_WORKER_COLUMNS = (Column("worker"), Column("task", prose=True), Column("done", right=True))


class SweepDisplay:
    """Shows counts, rates and time left; `titles` are the display names of trajectories, by id. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._started = time.monotonic()
        self._next = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, view: View) -> None:
        """Show the current progress."""
        elapsed = time.monotonic() - self._started
        if self._live is not None:
            self._live.update(_panel(view, elapsed))
        elif elapsed >= self._next:
            self._next = elapsed + seconds_between_lines(elapsed)
            say(self._console, f"{duration(elapsed)}: {_line(view)}")


def _left(view: View) -> str:
    return "not known yet" if view.seconds_left is None else duration(view.seconds_left)


def _line(view: View) -> str:
    counts = view.counts
    return (
        f"{view.stage}; trajectories {counts.trajectories_done}/{counts.trajectories}, "
        f"edits {counts.edits_done}/{counts.edits} ({view.edits_per_second:.1f}/s), "
        f"checkpoint scores {counts.scores_done}/{counts.scores}, failures {counts.failures}, time left {_left(view)}"
        f"{_in_hand(view)}"
    )


def _in_hand(view: View) -> str:
    """Return how far the steps under way are, of a few workers at most."""
    steps = [str(said.within) for _, said in sorted(view.doing.items(), key=_number) if said.within is not None]
    more = [f"{len(steps) - _MOST_STEPS} more"] if len(steps) > _MOST_STEPS else []
    return f"; in hand: {', '.join([*steps[:_MOST_STEPS], *more])}" if steps else ""


def _number(found: tuple[Worker, ReplicaProgress]) -> int:
    return found[0].number


def _panel(view: View, elapsed: float) -> RenderableType:
    counts = view.counts
    grid = Table.grid(padding=(0, 2))
    for name, done, total in (
        ("trajectories", counts.trajectories_done, counts.trajectories),
        ("edits", counts.edits_done, counts.edits),
        ("checkpoint scores", counts.scores_done, counts.scores),
    ):
        grid.add_row(name, ProgressBar(total=max(total, 1), completed=done, width=_BAR), f"{done}/{total}")
    tail = Text.assemble(
        (view.stage, "bold"),
        f"; {view.edits_per_second:.1f} edits/s; elapsed {duration(elapsed)}, left {_left(view)}; ",
        (f"failures {counts.failures}", "bold red" if counts.failures else "dim"),
    )
    busy = {worker: progress for worker, progress in view.doing.items() if progress.task is not None}
    parts: list[RenderableType] = [grid, tail]
    if busy:
        rows = [_worker_row(worker, busy[worker]) for worker in sorted(busy, key=lambda worker: worker.number)]
        parts.append(TextTable(_WORKER_COLUMNS, rows))
    if len(busy) < len(view.doing):
        parts.append(Text(f"idle workers: {len(view.doing) - len(busy)}", style="dim"))
    return Group(*parts)


def _worker_row(worker: Worker, progress: ReplicaProgress) -> list[Cell]:
    task = progress.title or progress.task or "idle"
    if progress.waits_for is not None:
        task += f", waiting for {progress.waits_for}"
    elif progress.within is not None:
        task += f", {progress.within}"
    return [f"{worker.role} {worker.number}", task, f"{progress.edits}/{progress.of}" if progress.of else None]
