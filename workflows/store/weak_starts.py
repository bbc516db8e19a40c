"""Methods whose first edits did not take: their hyperparameters write hardly anything into this model.

A preset of another model may change nothing. Its scores then look as if everything were well preserved.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from sphere_core.foundation.parquet import parquet_table
from sphere_core.foundation.storage import Storage
from workflows.store.plan import TrajectoryPlan

__all__ = ["LEAST_EFFICACY", "weak_start", "weak_starts"]

LEAST_EFFICACY = 0.5
_COLUMNS = ["metric", "protocol", "value"]


def weak_start(storage: Storage, plan: TrajectoryPlan) -> str | None:
    """Return a warning if the efficacy at a trajectory's first scored checkpoint is under a half, else None.

    Under argmax and, since long targets are rarely right in every token, by token as well. None too if nothing is
    scored there yet, for collapsed scores, for a fine-tuning, and for the unedited model as a method.
    """
    if plan.parent is not None or plan.editor == "unedited" or not plan.wanted:
        return None
    first = min(plan.wanted)
    paths = [plan.rows_path(first, one) for one in plan.evaluations if one.kind == "edit_quality"]
    values = {protocol: value for path in paths for protocol, value in _efficacies(storage, path)}
    known = [value for protocol in ("argmax", "token") if (value := values.get(protocol)) is not None]
    if not known or max(known) >= LEAST_EFFICACY:
        return None
    return (
        f"{plan.title} on {plan.model}: of the first {first} edits {known[0]:.0%} took (efficacy): its hyperparameters "
        "hardly change this model; 'sphere calibrate' finds values for it"
    )


def weak_starts(storage: Storage, plans: Iterable[TrajectoryPlan]) -> list[str]:
    """Return the warnings of the first trajectory of each model and method."""
    chosen: dict[tuple[str, str], TrajectoryPlan] = {}
    for plan in plans:
        chosen.setdefault((plan.model, plan.title), plan)
    return [warning for plan in chosen.values() if (warning := weak_start(storage, plan)) is not None]


def _efficacies(storage: Storage, path: str) -> Iterator[tuple[str, float | None]]:
    try:
        rows = parquet_table(storage.read_bytes(path), _COLUMNS).to_pylist()
    except (OSError, pa.ArrowException):
        # Not scored yet; a damaged file is named where its numbers are shown.
        return
    for row in rows:
        if row["metric"] == "efficacy":
            yield row["protocol"], row["value"]
