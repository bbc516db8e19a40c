"""Where a sweep's hours went: seconds by method, work and stage."""

import pyarrow as pa

from workflows.results.sql.connect import connect_roots, query
from workflows.results.sql.sweep_roots import SweepRoot

__all__ = ["stage_totals"]


def stage_totals(root: SweepRoot) -> pa.Table:
    """Return one row per model, method, work, stage, device and versions: the sum over trajectories and checkpoints.

    `share` is that of all seconds; a stage that runs `beside` others has none, because its seconds are not waited for.
    `per_edit` is of editing. What an interrupted attempt spent after its last checkpoint is not recorded.
    """
    with connect_roots([root], views=("stages",)) as connection:
        return connection.sql(query("stage_totals")).to_arrow_table()
