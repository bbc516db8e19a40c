"""The public views of a sweep as Parquet files, one per view: what `datasets.load_dataset` and data frames read."""

from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from sphere_core.foundation.parquet import column_options
from workflows.results.sql.connect import connect_roots
from workflows.results.sql.sweep_roots import SweepRoot

__all__ = ["DATA_VIEWS", "write_views"]

# The first that has rows is what a reader without a choice gets.
DATA_VIEWS = ("scores", "unedited", "geometry", "geometry_means", "trajectories", "timings")
_BATCH_ROWS = 122_880


def write_views(root: SweepRoot, folder: Path) -> dict[str, int]:
    """Write the views that have rows to `VIEW.parquet`, and return how many rows each of them has.

    The column `root` is left out: it names a place on this machine. Views are written batch by batch, so that no more
    than one is in memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with connect_roots([root], views=DATA_VIEWS) as connection:
        counts = {name: _write(connection, name, folder / f"{name}.parquet") for name in DATA_VIEWS}
    return {name: count for name, count in counts.items() if count}


def _write(connection: duckdb.DuckDBPyConnection, view: str, out: Path) -> int:
    batches = connection.sql(f"SELECT * EXCLUDE (root) FROM {view}").to_arrow_reader(_BATCH_ROWS)
    count = 0
    with pq.ParquetWriter(out, batches.schema, write_page_checksum=True, **column_options(batches.schema)) as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += batch.num_rows
    if not count:
        out.unlink()
    return count
