"""Seconds and edits of one attempt at a trajectory."""

import time

from sphere_core.models.stage_clock import StageClock
from workflows.replicas.stage_seconds import stage_seconds
from workflows.store.records import EditTiming

__all__ = ["LapClock"]

_PROGRESS_SECONDS = 1.0


class LapClock:
    """Seconds of one attempt: in total, since the last checkpoint, since the last report."""

    def __init__(self, first_edit: int, stages: StageClock) -> None:
        self.stages = stages
        self._first_edit = self._lap_edit = first_edit
        self._start = self._lap_start = time.monotonic()
        self._said: float | None = None

    def rate(self, edits: int) -> float:
        """Edits per second of this attempt."""
        return (edits - self._first_edit) / max(time.monotonic() - self._start, 1e-9)

    def lap(self, edits: int, attempt: int) -> EditTiming:
        """Seconds and edits since the last checkpoint; starts the next lap."""
        now = time.monotonic()
        seconds, lap_edits = round(now - self._lap_start, 6), edits - self._lap_edit
        self._lap_start, self._lap_edit = now, edits
        stages = stage_seconds(self.stages, seconds).as_json()
        return EditTiming(edits=edits, attempt=attempt, seconds=seconds, edits_in_lap=lap_edits, **stages)

    def due(self) -> bool:
        """Whether it is time to write progress.json again; true on the first call."""
        now = time.monotonic()
        if self._said is not None and now - self._said < _PROGRESS_SECONDS:
            return False
        self._said = now
        return True
