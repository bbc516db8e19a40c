"""The newest scores of a trajectory: a few small row files, each read once. Requires neither models nor Ray."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sphere_core.foundation.parquet import parquet_table
from sphere_core.foundation.storage import Storage
from workflows.store.plan import TrajectoryPlan
from workflows.store.row_reader import warn_of_damage
from workflows.store.state import TrajectoryState
from workflows.store.weak_starts import weak_starts
from workflows.terminal.numbers import Measured

__all__ = ["SHOWN_METRICS", "LastScore", "LastScores"]

# What status shows of all metrics: its name there, by metric and protocol (None: any).
SHOWN_METRICS = {("score", "argmax"): "score", ("general_mean", None): "general", ("he_drift", None): "HE drift"}
_COLUMNS = ["metric", "protocol", "site", "value", "status"]


@dataclass(frozen=True)
class LastScore:
    """A metric's newest value: None with `collapsed` if the answers were unusable."""

    edits: int
    value: float | None
    collapsed: bool

    def measured(self) -> Measured:
        """Return the value as a column of a table shows it."""
        return Measured(self.value, word="collapsed" if self.value is None and self.collapsed else None)


class LastScores:
    """Reads newest scores from row files, which never change, and keeps what was read."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._read: dict[str, dict[str, LastScore]] = {}

    def of(self, found: TrajectoryState) -> dict[str, LastScore]:
        """Return the newest value of every shown metric that has one, by its shown name."""
        missing = set(found.missing)
        newest: dict[str, LastScore] = {}
        for evaluation in found.plan.evaluations:
            scored = (edits for edits in reversed(found.to_score) if (edits, evaluation) not in missing)
            edits = next(scored, None)
            if edits is not None:
                newest |= self._file(found.plan.rows_path(edits, evaluation), edits)
        return newest

    def weak_starts(self, plans: Iterable[TrajectoryPlan]) -> list[str]:
        """Return warnings of methods whose first scored edits had too little effect on the model's answers."""
        return weak_starts(self._storage, plans)

    def _file(self, path: str, edits: int) -> dict[str, LastScore]:
        if path not in self._read:
            try:
                data = self._storage.read_bytes(path)
            except FileNotFoundError:
                # Removed since it was listed: there is no score yet.
                return {}
            found: dict[str, LastScore] = {}
            for row in self._rows(path, data):
                names = [SHOWN_METRICS.get((row["metric"], protocol)) for protocol in (row["protocol"], None)]
                name = names[0] or names[1]
                if name is not None and row["site"] is None:
                    found[name] = LastScore(edits, row["value"], row["status"] == "collapsed")
            self._read[path] = found
        return self._read[path]

    def _rows(self, path: str, data: bytes) -> list[dict[str, Any]]:
        """Return the rows in a file's bytes; none of a damaged file, with a warning that names it."""
        try:
            rows: list[dict[str, Any]] = parquet_table(data, _COLUMNS).to_pylist()
        except (OSError, pa.ArrowException) as error:
            warn_of_damage(f"{self._storage.uri}/{path}", error)
            return []
        return rows
