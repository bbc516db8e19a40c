"""Showing how far a sweep is: a live panel on a terminal, a plain line every few seconds elsewhere."""

import time
from collections.abc import Mapping
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

__all__ = ["Display", "SweepDisplay", "View"]


@dataclass(frozen=True)
class View:
    """Counts, what is going on, the rate, the time left, what each worker does."""

    counts: Counts
    stage: str
    edits_per_second: float
    seconds_left: float | None
    doing: dict[Worker, ReplicaProgress]


class Display(Protocol):
    """Shows how far a sweep is."""

    def update(self, view: View) -> None:
        """Show it."""
        ...


_LINE_SECONDS = 5.0


class SweepDisplay:
    """Shows counts, rates and time left; `titles` are what people call trajectories, by id. A context manager."""

    def __init__(self, console: Console, titles: Mapping[str, str]) -> None:
        self._console = console
        self._titles = titles
        self._live: Live | None = None
        self._started = time.monotonic()
        self._said = -_LINE_SECONDS

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
        """Show where the sweep is now."""
        if self._live is not None:
            self._live.update(_panel(view, self._titles))
            return
        now = time.monotonic()
        if now - self._said >= _LINE_SECONDS:
            self._said = now
            text = f"{duration(now - self._started)}: {_line(view)}"
            self._console.print(text, highlight=False, soft_wrap=True)


def _left(view: View) -> str:
    return "not known yet" if view.seconds_left is None else duration(view.seconds_left)


def _line(view: View) -> str:
    counts = view.counts
    return (
        f"{view.stage}; trajectories {counts.trajectories_done}/{counts.trajectories}, "
        f"edits {counts.edits_done}/{counts.edits} ({view.edits_per_second:.1f}/s), "
        f"checkpoint scores {counts.scores_done}/{counts.scores}, failures {counts.failures}, time left {_left(view)}"
    )


def _panel(view: View, titles: Mapping[str, str]) -> RenderableType:
    counts = view.counts
    grid = Table.grid(padding=(0, 2))
    for name, done, total in (
        ("trajectories", counts.trajectories_done, counts.trajectories),
        ("edits", counts.edits_done, counts.edits),
        ("checkpoint scores", counts.scores_done, counts.scores),
    ):
        grid.add_row(name, ProgressBar(total=max(total, 1), completed=done, width=36), f"{done}/{total}")
    tail = Text.assemble(
        (view.stage, "bold"),
        f"   {view.edits_per_second:.1f} edits/s   time left {_left(view)}   ",
        (f"failures {counts.failures}", "bold red" if counts.failures else "dim"),
    )
    workers = sorted(view.doing, key=lambda worker: worker.number)
    return Group(grid, tail, *(_worker_line(worker, view.doing[worker], titles) for worker in workers))


def _worker_line(worker: Worker, progress: ReplicaProgress, titles: Mapping[str, str]) -> Text:
    text = f"  {worker.role} {worker.number}: {progress.task or 'idle'}"
    if progress.trajectory_id is not None and progress.trajectory_id in titles:
        text += f": {titles[progress.trajectory_id]}"
    if progress.waits_for is not None:
        text += f", waiting for {progress.waits_for}"
    if progress.of:
        text += f"  {progress.edits}/{progress.of}"
    return Text(text, style="dim", overflow="ellipsis", no_wrap=True)
