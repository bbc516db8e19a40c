"""How far a long step is, shown while it runs: one changing line on a terminal, rarer and rarer lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from sphere_core.foundation.durations import duration
from workflows.terminal.console import say
from workflows.terminal.escape import one_line

__all__ = ["StepLine", "seconds_between_lines"]

# Between two lines of a log: a short run shows that it lives, a day's log stays readable.
_LEAST_SECONDS, _MOST_SECONDS, _SHARE = 5.0, 600.0, 0.02


def seconds_between_lines(elapsed: float) -> float:
    """Return the seconds between two lines of a log: longer as it grows, a few hundred lines per day."""
    return min(_MOST_SECONDS, max(_LEAST_SECONDS, _SHARE * elapsed))


class StepLine:
    """Shows the last text it was given. A context manager: the line of a terminal goes with it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._started = time.monotonic()
        self._next = _LEAST_SECONDS

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, text: object) -> None:
        """Show a text, if it is time for one; called at every sign of life, so what it costs is a look at the clock."""
        elapsed = time.monotonic() - self._started
        if self._status is not None:
            self._status.update(one_line(str(text)))
        elif elapsed >= self._next:
            self._next = elapsed + seconds_between_lines(elapsed)
            say(self._console, f"{duration(elapsed)}: {text}")
