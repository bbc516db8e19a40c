"""What there is to show of a run while it goes on."""

from dataclasses import dataclass
from typing import Protocol

from workflows.driver.executor import Worker
from workflows.driver.tracking import Counts
from workflows.replicas.tasks import ReplicaProgress

__all__ = ["Display", "View"]


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
