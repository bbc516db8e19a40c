"""How far a pass of second moments is: a bar on a terminal, lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sphere_core.foundation.durations import duration
from sphere_core.moments.packing import Amount

__all__ = ["PassBar", "print_whole"]

_LINE_SECONDS = 5.0


class PassBar:
    """Progress of a pass: on a terminal a bar with rate and time left, elsewhere a line every few seconds."""

    def __init__(self, console: Console, amount: Amount) -> None:
        self._console = console
        self._unit = "texts" if amount.tokens is None else "tokens"
        self._total = amount.tokens or amount.texts or 0
        self._first: tuple[float, int] | None = None
        self._said = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID = self._progress.add_task(self._unit, total=self._total, rate="")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if error is None and self._first is not None:
            seconds = time.monotonic() - self._first[0]
            print_whole(self._console, f"{self._total} {self._unit} in {duration(seconds)}")

    def show(self, done: int) -> None:
        """Show how far the pass is; the rate is that of this attempt."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        seconds, made = now - self._first[0], done - self._first[1]
        rate = made / seconds if seconds > 0 else 0.0
        self._progress.update(self._task, completed=done, rate=f"{done}/{self._total}, {rate:.0f}/s")
        if not self._console.is_terminal and now - self._said >= _LINE_SECONDS:
            self._said = now
            left = duration((self._total - done) / rate) if rate else "not known yet"
            print_whole(self._console, f"{done}/{self._total} {self._unit}, {rate:.0f}/s, time left {left}")


def print_whole(console: Console, text: str) -> None:
    """Print one line as it is, neither wrapped nor coloured: paths and keys in it are there to be copied."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)
