"""How far a long piece of work is: a batch of edits, a pass over a corpus, a score. Reported while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Position", "WorkProgress"]


@dataclass(frozen=True)
class Position:
    """`done` of `of` units of a stage: requests whose target is found, layers that are written."""

    stage: str
    done: int
    of: int
    unit: str

    def __str__(self) -> str:
        return f"{self.stage} {self.done}/{self.of} {self.unit}"


class WorkProgress:
    """The position of the work in hand, and a count of its signs of life; written by one thread, read by any.

    A sign is whatever shows that the work moves: a report of a position, or a change of stage. A reader that finds the
    count unchanged knows that nothing has moved since it last read.
    """

    def __init__(self) -> None:
        self.signs = 0
        self.position: Position | None = None
        self._listener: Callable[[], None] | None = None

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have `listener` called at every sign, in the thread that works; None: no longer."""
        self._listener = listener

    def report(self, stage: str, done: int, of: int, unit: str) -> None:
        """Note how far a stage is; a sign."""
        self.position = Position(stage, done, of, unit)
        self.sign()

    def sign(self) -> None:
        """Note that the work moves."""
        self.signs += 1
        if self._listener is not None:
            self._listener()

    def clear(self) -> None:
        """Note that no stage is under way any more, as between two batches."""
        self.position = None
        self.sign()
