"""Similarity of each edit's key to the keys of the edits written after it."""

import numpy as np
import pyarrow as pa
import torch

from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters.places import place_order
from sphere_core.locate.edit_keys import EditKeys, read_edit_keys
from workflows.store.layout import keys_folder
from workflows.store.plan import TrajectoryPlan

__all__ = ["later_similarity", "similarity_columns", "stored_keys"]

_ROWS = 1024


def later_similarity(storage: Storage, plan: TrajectoryPlan) -> pa.Table | None:
    """Return (trajectory_id, edit, edits, `max_cosine_layerL`, `mean_cosine_layerL`, ...), None if no keys are stored.

    For every edit and wanted checkpoint: the largest and the mean cosine between its key and those of the batches
    written after its own, up to that checkpoint; null if there are none. Cosines in fp32, of float16 unit keys.
    """
    keys = stored_keys(storage, plan.id)
    places = np.array(keys.edits)
    if len(places) == 0:
        return None
    written = np.minimum(-(-places // plan.batch_size) * plan.batch_size, plan.edits)
    checkpoints = [edits for edits in plan.wanted if edits <= written.max()]
    columns: dict[str, np.ndarray] = {}
    for place, parts in sorted(keys.units.items(), key=lambda pair: place_order(pair[0])):
        highest, total = _by_interval(torch.cat(parts).float(), written, checkpoints)
        later = _later_counts(written, checkpoints)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.cumsum(total, axis=1) / later
        columns[f"max_cosine_layer{place}"] = np.maximum.accumulate(highest, axis=1)
        columns[f"mean_cosine_layer{place}"] = mean
    rows, steps = np.nonzero(_later_counts(written, checkpoints) > 0)
    fixed = {
        "trajectory_id": pa.repeat(plan.id, len(rows)),
        "edit": pa.array(places[rows], pa.int32()),
        "edits": pa.array(np.array(checkpoints)[steps], pa.int64()),
    }
    return pa.table(fixed | {name: pa.array(values[rows, steps], pa.float64()) for name, values in columns.items()})


def similarity_columns(table: pa.Table | None) -> tuple[str, ...]:
    """Return the names of the columns that hold a similarity."""
    return () if table is None else tuple(name for name in table.column_names if "_cosine_" in name)


def _by_interval(units: torch.Tensor, written: np.ndarray, checkpoints: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest cosine and the sum of cosines to later keys, `[n, c]`, one column per checkpoint interval."""
    count = len(written)
    highest = np.full((count, len(checkpoints)), -np.inf)
    total = np.zeros((count, len(checkpoints)))
    bounds = np.searchsorted(written, [0, *checkpoints], side="right")
    for start in range(0, count, _ROWS):
        rows = slice(start, min(start + _ROWS, count))
        cosines = (units[rows] @ units.T).numpy()
        cosines[written[None, :] <= written[rows, None]] = np.nan
        for step in range(len(checkpoints)):
            part = cosines[:, bounds[step] : bounds[step + 1]]
            if part.shape[1]:
                kept = np.where(np.isnan(part), -np.inf, part).max(axis=1)
                highest[rows, step] = kept
                total[rows, step] = np.nansum(part, axis=1, dtype=np.float64)
    return highest, total


def _later_counts(written: np.ndarray, checkpoints: list[int]) -> np.ndarray:
    until = np.searchsorted(written, checkpoints, side="right")
    after = np.searchsorted(written, written, side="right")
    counts: np.ndarray = np.maximum(until[None, :] - after[:, None], 0)
    return counts


def stored_keys(storage: Storage, trajectory_id: str) -> EditKeys:
    """Return all stored keys of a trajectory, in stream order; empty if there are none."""
    folder = keys_folder(trajectory_id)
    found = EditKeys.empty()
    for path in storage.list(folder):
        found.extend(read_edit_keys(storage.read_bytes(path), where=f"{storage.uri}/{path}"))
    return found
