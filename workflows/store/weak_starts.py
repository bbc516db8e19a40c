"""Methods whose first edits had too little effect on the model's answers: their hyperparameters write hardly anything
into this model, or too much.

A preset of another model may change nothing: its scores then look as if everything were well preserved. Or it may
change so much that edits are lost with all else: agreement with the unedited model distinguishes the two.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from sphere_core.foundation.parquet import parquet_table
from sphere_core.foundation.storage import Storage
from sphere_core.methods import EDITORS
from workflows.store.plan import TrajectoryPlan

__all__ = ["LEAST_AGREEMENT", "LEAST_EFFICACY", "weak_start", "weak_starts"]

LEAST_EFFICACY = 0.5
LEAST_AGREEMENT = 0.5
_CALIBRATE = "'sphere calibrate' finds values"
_COLUMNS = ["metric", "protocol", "value"]


def weak_start(storage: Storage, plan: TrajectoryPlan) -> str | None:
    """Return a warning if the efficacy at a trajectory's first scored checkpoint is under a half, else None.

    Under argmax and, since long targets are rarely right in every token, by token as well. None too if nothing is
    scored there yet, for collapsed scores, for a fine-tuning, and for methods that write no request. If less than half
    of the unedited model's answers remain (agreement), the warning says that they are lost; else, that little changed,
    by the editor's hyperparameters or by the regularizers after it.
    """
    row = EDITORS.get(plan.editor)
    if plan.parent is not None or (row is not None and not row.writes_requests) or not plan.wanted:
        return None
    first = min(plan.wanted)
    paths = [plan.rows_path(first, one) for one in plan.evaluations if one.kind == "edit_quality"]
    values = {key: value for path in paths for key, value in _values(storage, path)}
    known = [value for protocol in ("argmax", "token") if (value := values.get(("efficacy", protocol))) is not None]
    if not known or max(known) >= LEAST_EFFICACY:
        return None
    kept = values.get(("agreement", "argmax"))
    editor, *regularizers = plan.method.split("+")
    said, remedy = "its hyperparameters hardly change this model", f"{_CALIBRATE} for it"
    if kept is not None and kept < LEAST_AGREEMENT:
        said = f"its hyperparameters change too much of this model, of whose answers {kept:.0%} remain (agreement)"
    elif regularizers:
        said = (
            f"its hyperparameters, or what '{'+'.join(regularizers)}' leaves of its updates, hardly change this model"
        )
        remedy = f"a row of '{editor}' alone shows which, and {_CALIBRATE} for the editor"
    return f"{plan.title} on {plan.model}: of the first {first} edits {known[0]:.0%} took (efficacy): {said}; {remedy}"


def weak_starts(storage: Storage, plans: Iterable[TrajectoryPlan]) -> list[str]:
    """Return the warnings of the first trajectory of each model and method."""
    chosen: dict[tuple[str, str], TrajectoryPlan] = {}
    for plan in plans:
        chosen.setdefault((plan.model, plan.title), plan)
    return [warning for plan in chosen.values() if (warning := weak_start(storage, plan)) is not None]


def _values(storage: Storage, path: str) -> Iterator[tuple[tuple[str, str], float | None]]:
    """Yield each value of a file of rows with its metric and protocol."""
    try:
        rows = parquet_table(storage.read_bytes(path), _COLUMNS).to_pylist()
    except (OSError, pa.ArrowException):
        # Not scored yet; a damaged file is named where its numbers are shown.
        return
    for row in rows:
        yield (row["metric"], row["protocol"]), row["value"]
