"""Compaction: the row files of a finished trajectory in one file. A cache: it may be deleted, and is never the truth.

A compacted file is named by the row files it holds, so that one that lacks a row file, or holds one that is gone, is
not used. A row file that failed or is damaged will be written again under its name: its trajectory is left out. What is
computed afresh loses its compacted file (`workflows.store.fresh`).
"""

import hashlib
from collections.abc import Collection, Sequence

import pyarrow as pa

from sphere_core.foundation.parquet import parquet_bytes
from sphere_core.foundation.storage import Storage
from workflows.store.layout import COMPACTED, compacted_path
from workflows.store.plan import SweepPlan, TrajectoryPlan
from workflows.store.row_reader import read_row_file
from workflows.store.state import SweepFiles, SweepState

__all__ = ["Compacted", "compact", "compact_trajectory", "compacted_name", "stored_row_paths"]

# Rows compress well and are read by column: groups as large as DuckDB's own.
_GROUP_ROWS = 122_880


# Row files from which on a run compacts a trajectory by itself: fewer are opened as fast one by one.
_WORTH_FILES = 8


class Compacted:
    """What a compaction has done: files written, already there, and removed because they hold other row files."""

    def __init__(self) -> None:
        self.written = self.kept = self.removed = self.rows = 0


def stored_row_paths(plan: TrajectoryPlan, files: SweepFiles) -> list[str]:
    """Return the row files of one trajectory that are stored, in the order of its checkpoints."""
    wanted = (
        plan.rows_path(edits, evaluation)
        for edits in sorted(files.checkpoints.get(plan.id, ()))
        for evaluation in plan.evaluations
    )
    return [path for path in wanted if path in files.rows]


def compacted_name(trajectory_id: str, paths: Sequence[str]) -> str:
    """Return the path of the compacted file that holds exactly these row files."""
    digest = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16]
    return compacted_path(trajectory_id, digest)


def compact(storage: Storage, plan: SweepPlan, state: SweepState, files: SweepFiles) -> Compacted:
    """Write one file for each finished trajectory of a plan, and remove older ones; a second call writes nothing.

    Reads row files, warns of damaged ones and writes below `compacted/`. Raises StorageError if storage fails.
    """
    found, stored = Compacted(), set(storage.list(COMPACTED))
    used: set[str] = set()
    for one in state.trajectories:
        paths = stored_row_paths(one.plan, files)
        name = compacted_name(one.plan.id, paths)
        if not one.is_finished or not paths:
            continue
        if name in stored:
            used.add(name)
            found.kept += 1
            continue
        table = _whole(storage, paths)
        if table is not None:
            storage.write_bytes(name, parquet_bytes(table, row_group_size=_GROUP_ROWS))
            used.add(name)
            found.written += 1
            found.rows += table.num_rows
    planned = {trajectory.id for trajectory in plan.trajectories}
    for name in sorted(stored - used):
        if name.removeprefix(f"{COMPACTED}/").partition("-")[0] in planned:
            storage.delete(name)
            found.removed += 1
    return found


def compact_trajectory(storage: Storage, plan: TrajectoryPlan, checkpoints: Collection[int]) -> str | None:
    """Write the compacted file of a trajectory of which nothing is left to edit or to score; return its path.

    `checkpoints` are the edit counts that are scored. None, and nothing written, for few row files and if one of them
    is damaged or holds a failed score. A second call writes nothing. Raises StorageError if storage fails.
    """
    paths = [plan.rows_path(edits, evaluation) for edits in sorted(checkpoints) for evaluation in plan.evaluations]
    name = compacted_name(plan.id, paths)
    if len(paths) < _WORTH_FILES:
        return None
    if not storage.exists(name):
        table = _whole(storage, paths)
        if table is None:
            return None
        storage.write_bytes(name, parquet_bytes(table, row_group_size=_GROUP_ROWS))
    return name


def _whole(storage: Storage, paths: Sequence[str]) -> pa.Table | None:
    """Return the rows of all files; None if one is damaged or holds a failed score."""
    tables = [read_row_file(storage, path) for path in paths]
    # Compared as Python texts: a literal among pyarrow's own functions has it import pandas, half a second.
    if any(table is None or "failed" in table["status"].unique().to_pylist() for table in tables):
        return None
    return pa.concat_tables(tables)
