"""Which files of a sweep directory are copied into a bundle: all that tables, figures and reports read; no tensors."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa

from sphere_core.checkpoint_files import MANIFEST
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.parquet import require_whole
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.store.layout import (
    DETAILS,
    PLAN_FILE,
    SWEEP_FILE,
    TIMINGS,
    checkpoint_path,
    error_path,
    plugin_path,
    spec_path,
    stopped_path,
)
from workflows.store.row_reader import planned_row_paths

__all__ = ["copy_sweep"]


def copy_sweep(root: SweepRoot, folder: Path, *, details: bool) -> None:
    """Copy what is read of a sweep's plan into a folder, under the same paths.

    These are plan and sweep file, plugins, specifications, manifests, stops and failures, rows, timings and, with
    `details`, the scored probes and documents behind the rows. Weights, states, keys, leases and caches stay behind.
    Raises InputError for a damaged file of rows or details.
    """
    for path in _paths(root, details=details):
        try:
            data = root.storage.read_bytes(path)
        except FileNotFoundError:
            # Records that only some trajectories have, and what a running sweep has replaced since it was listed.
            continue
        if path.endswith(".parquet"):
            _require_whole(data, f"{root.storage.uri}/{path}")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _paths(root: SweepRoot, *, details: bool) -> Iterator[str]:
    plan, files = root.plan, root.files
    yield from (SWEEP_FILE, PLAN_FILE)
    yield from sorted({plugin_path(one.plugin.digest) for one in plan.plugins})
    for one in plan.trajectories:
        yield spec_path(one.id)
        yield from (path for path in (stopped_path(one.id), error_path(one.id)) if path in files.stopped | files.errors)
        yield from (checkpoint_path(one.id, edits, MANIFEST) for edits in sorted(files.checkpoints.get(one.id, ())))
    rows = sorted(planned_row_paths(plan, files) & files.rows)
    yield from rows
    if details:
        # Details have the name of the rows that were made from them.
        names = {PurePosixPath(path).name for path in rows}
        yield from (path for path in root.storage.list(DETAILS) if PurePosixPath(path).name in names)
    yield from root.storage.list(TIMINGS)
    yield from sorted(root.state.task_failures)


def _require_whole(data: bytes, where: str) -> None:
    try:
        require_whole(data)
    except pa.ArrowInvalid as error:
        remedy = "run 'sphere verify ROOT --repair', then the sweep again: a bundle holds sound files only"
        raise InputError(f"a file of the sweep is damaged: {error}", where=where, remedy=remedy) from error
