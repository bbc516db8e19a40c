"""A sweep directory, opened: its rows, tables and states as Arrow tables. Reads files alone; starts nothing."""

from typing import Literal

import pyarrow as pa

from sphere_core.foundation.errors import unknown_name
from sphere_core.foundation.storage import Storage
from workflows.results.formats.results_view import results_arrow
from workflows.results.status.latest_scores import LastScores
from workflows.results.status.status import status_records
from workflows.results.tables.ability import ability_table
from workflows.results.tables.retention import RETENTION_TABLES, RetentionAsk, retention_table
from workflows.results.tables.table import results_table
from workflows.store.plan import SweepPlan, read_plan
from workflows.store.row_reader import read_rows
from workflows.store.state import derive_state

__all__ = ["STATUS_SCHEMA", "SweepDirectory", "open_sweep"]

STATUS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("model", pa.string()),
        ("method", pa.string()),
        ("dataset", pa.string()),
        ("order", pa.string()),
        ("seed", pa.int64()),
        ("state", pa.string()),
        ("edits", pa.int64()),
        ("of", pa.int64()),
        ("edits_per_second", pa.float64()),
        ("seconds_left", pa.float64()),
        ("checkpoints", pa.list_(pa.int64())),
        ("scored", pa.int64()),
        ("to_score", pa.int64()),
        ("stopped", pa.string()),
    ]
)


class SweepDirectory:
    """What `sphere run` left below a root. Every call reads the files again, so a running sweep can be followed.

    Each table is a `pyarrow.Table`; `.to_pandas()` makes a data frame of it.
    """

    def __init__(self, storage: Storage, plan: SweepPlan) -> None:
        self.storage = storage
        self.plan = plan

    def rows(self) -> pa.Table:
        """Return every score of the plan's checkpoints and unedited models, in long format (schema: ROW_SCHEMA)."""
        return read_rows(self.storage, self.plan)

    def status(self) -> pa.Table:
        """Return one row per trajectory: its state, edits, rate, checkpoints and scores (schema: STATUS_SCHEMA)."""
        records = status_records(derive_state(self.storage, self.plan), LastScores(self.storage))
        known = [{name: record[name] for name in STATUS_SCHEMA.names} for record in records]
        return pa.Table.from_pylist(known, schema=STATUS_SCHEMA)

    def table(self, *, by: Literal["method", "edits"] = "method") -> pa.Table:
        """Return the results table: one row per method at the end, or one per method and checkpoint."""
        return results_arrow(results_table(self.storage, self.plan, by_edits=by == "edits"))

    def ability(self, *, by: Literal["method", "edits"] = "method", task: str | None = None) -> pa.Table:
        """Return general ability task by task with the change from the unedited model; `task` keeps one of them."""
        return ability_table(self.storage, self.plan, by_edits=by == "edits", task=task)

    def retention(
        self,
        *,
        table: str,
        role: str,
        protocol: str,
        measure: Literal["argmax", "probability"],
        cohort: int | None = None,
        batches: int | None = None,
    ) -> pa.Table:
        """Return a table of `sphere retention`: what became of the edits' probes over the checkpoints.

        `table` is summary, curve, cohorts, ages, auc, order, edits, survival or predictors. `role` says which probes
        (rewrite, paraphrase, ...), `protocol` how they were scored (correct, paper-memit, ...), `measure` when an
        answer counts as right. `cohort` is the size of the first and latest cohorts in edits, `batches` the width of
        an age bin; None: one checkpoint interval. Raises InputError for an unknown table, and if no scored probes
        are stored.
        """
        if table not in RETENTION_TABLES:
            raise unknown_name("retention table", table, RETENTION_TABLES)
        ask = RetentionAsk(table, role, protocol, measure, cohort, batches)
        return retention_table(self.storage, self.plan, ask)


def open_sweep(*, root: str) -> SweepDirectory:
    """Open a sweep directory or URL; raises InputError if it cannot be reached or holds no plan."""
    storage = Storage(root)
    storage.require_reachable()
    return SweepDirectory(storage, read_plan(storage))
