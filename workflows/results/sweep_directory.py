"""A sweep directory, opened: its rows, tables and states as Arrow tables. Reads files alone; starts nothing."""

from collections.abc import Callable, Sequence
from typing import Literal

import pyarrow as pa

from sphere_core.foundation.errors import unknown_name
from sphere_core.foundation.storage import Storage
from workflows.results.formats.results_view import results_arrow
from workflows.results.sql.connect import VIEWS, connect_roots
from workflows.results.sql.sweep_roots import SweepRoot, open_roots, owned_parts
from workflows.results.sql.user_query import run_query, views_in
from workflows.results.status.latest_scores import LastScores
from workflows.results.status.status import status_records
from workflows.results.tables.ability import ability_table
from workflows.results.tables.retention import RETENTION_TABLES, RetentionAsk, retention_table
from workflows.results.tables.table import results_table
from workflows.store.plan import SweepPlan
from workflows.store.row_reader import read_rows

__all__ = ["STATUS_SCHEMA", "SweepDirectory", "open_sweep"]

STATUS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("model", pa.string()),
        ("method", pa.string()),
        ("dataset", pa.string()),
        ("stream_order", pa.string()),
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
    """What `sphere run` left below one or several roots. Every call reads the files again: a running sweep grows.

    Each table is a `pyarrow.Table`: `.to_pandas()` makes a pandas data frame of it, `polars.from_arrow` a Polars one.
    """

    def __init__(self, roots: Sequence[SweepRoot]) -> None:
        self._roots = list(roots)

    @property
    def storage(self) -> Storage:
        """The storage of the first root."""
        return self._roots[0].storage

    @property
    def plan(self) -> SweepPlan:
        """The plan of the first root."""
        return self._roots[0].plan

    def view(self, name: str) -> pa.Table:
        """Return a view as a table: trajectories, scores, geometry, edits, timings, ... (see Row columns in the docs).

        Raises InputError for an unknown view.
        """
        if name not in VIEWS:
            raise unknown_name("view", name, VIEWS)
        return self.sql(f"FROM {name}")

    def sql(self, text: str) -> pa.Table:
        """Return the answer of a query on the views; raises InputError for one that does not only read, or is wrong."""
        with connect_roots(self._now(), views=views_in(text), locked=True) as connection:
            return run_query(connection, text)

    def rows(self) -> pa.Table:
        """Return every score of the plans' checkpoints and unedited models, in long format (schema: ROW_SCHEMA)."""
        return self._joined(lambda root: read_rows(root.storage, root.plan))

    def status(self) -> pa.Table:
        """Return one row per trajectory: its state, edits, rate, checkpoints and scores (schema: STATUS_SCHEMA)."""
        roots = owned_parts(self._now())
        records = [record for root in roots for record in status_records(root.state, LastScores(root.storage))]
        known = [{name: record[name] for name in STATUS_SCHEMA.names} for record in records]
        return pa.Table.from_pylist(known, schema=STATUS_SCHEMA)

    def table(self, *, by: Literal["method", "edits"] = "method") -> pa.Table:
        """Return the results table: one row per method at the end, or one per method and checkpoint.

        Of several roots: one table after the other, means over the seeds of each; `sphere table --layout` pools them.
        """
        return self._joined(lambda root: results_arrow(results_table(root, by_edits=by == "edits")))

    def ability(self, *, by: Literal["method", "edits"] = "method", task: str | None = None) -> pa.Table:
        """Return general ability task by task with the change from the unedited model; `task` keeps one of them."""
        return self._joined(lambda root: ability_table(root, by_edits=by == "edits", task=task))

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

        `table` is summary, curve, cohorts, ages, origins, auc, order, edits, survival or predictors. `role` says which
        probes (rewrite, paraphrase, ...), `protocol` how they were scored (correct, paper-memit, ...), `measure` when
        an answer counts as right. `cohort` is the size of the first and latest cohorts in edits, `batches` the width of
        an age bin; None: one checkpoint interval. Raises InputError for an unknown table, and if no scored probes are
        stored.
        """
        if table not in RETENTION_TABLES:
            raise unknown_name("retention table", table, RETENTION_TABLES)
        ask = RetentionAsk(table, role, protocol, measure, cohort, batches)
        return retention_table(self._now(), ask)

    def _joined(self, table: Callable[[SweepRoot], pa.Table]) -> pa.Table:
        """Return the tables of the roots, one after the other: a trajectory of several is in one of them."""
        roots = owned_parts(self._now()) if len(self._roots) > 1 else self._roots
        return pa.concat_tables([table(root) for root in roots], promote_options="default")

    def _now(self) -> list[SweepRoot]:
        return [SweepRoot.of(root.storage, root.plan) for root in self._roots]


def open_sweep(*, root: str | Sequence[str]) -> SweepDirectory:
    """Open a sweep directory or URL, or several that are read as one.

    Raises InputError if one cannot be reached or holds no plan, and if two hold other numbers for the same cell.
    """
    return SweepDirectory(open_roots([root] if isinstance(root, str) else root))
