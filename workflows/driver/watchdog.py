"""Stop a trajectory that exceeds limits, to save its GPU hours.

The verdict is computed from the rows of checkpoints in order, so it does not depend on which replica ran, or how far a
trajectory was ahead of its scores: everything beyond the checkpoint of the verdict is discarded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sphere_core.foundation.parquet import parquet_table
from sphere_core.foundation.storage import Storage
from workflows.store.policies import Watchdog

__all__ = ["Verdict", "WatchdogReadings", "read_readings", "verdict"]


@dataclass(frozen=True)
class WatchdogReadings:
    """Readings of a checkpoint's rows: the drift of hyperspherical energy, and whether any score collapsed."""

    he_drift: float | None
    collapsed: bool


@dataclass(frozen=True)
class Verdict:
    """The edit count at which a trajectory ends, and the reason."""

    edits: int
    reason: str


def read_readings(storage: Storage, paths: Sequence[str]) -> WatchdogReadings:
    """Read one checkpoint's readings from its row files; rows of single sites are ignored."""
    drift, collapsed = None, False
    for path in paths:
        for row in parquet_table(storage.read_bytes(path), ["metric", "site", "value", "status"]).to_pylist():
            if row["site"] is None:
                collapsed = collapsed or row["status"] == "collapsed"
                drift = row["value"] if row["metric"] == "he_drift" else drift
    return WatchdogReadings(drift, collapsed)


def verdict(
    limits: Watchdog, checkpoints: Sequence[int], readings: Callable[[int], WatchdogReadings | None]
) -> Verdict | None:
    """Return the first checkpoint that exceeds a limit, in order, up to the first unscored one; None if none does."""
    collapsed = 0
    for edits in sorted(checkpoints):
        found = readings(edits)
        if found is None:
            return None
        collapsed += found.collapsed
        if limits.he_drift is not None and found.he_drift is not None and abs(found.he_drift) > limits.he_drift:
            why = f"HE drift {found.he_drift:.3g} is beyond {limits.he_drift:g}"
            return Verdict(edits, f"stopped by watchdog at {edits} edits because {why}")
        if limits.collapsed_checkpoints is not None and collapsed >= limits.collapsed_checkpoints:
            why = f"{collapsed} of its checkpoints have collapsed scores"
            return Verdict(edits, f"stopped by watchdog at {edits} edits because {why}")
    return None
