"""Sweep directories as views of one DuckDB connection: what every table, figure, page and query reads.

`view_columns.VIEW_COLUMNS` documents the public views, column by column. Queries of this package also read `rows`
(every row of the row files; `trajectory_id` is null for unedited models), `planned` (`trajectories` without
hyperparameters and cost) and `bases` (an unedited model under one evaluator, in each stream that starts from it).
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import files as package_files
from typing import Literal

import duckdb

from sphere_core.foundation.storage import Storage
from workflows.results.sql.file_views import create_file_view
from workflows.results.sql.local_files import LocalFiles
from workflows.results.sql.plan_tables import (
    UNEDITED,
    axes,
    bases,
    planned,
    read_specifications,
    specifications,
    starts,
    stream_name,
)
from workflows.results.sql.sweep_roots import SweepRoot, owned_trajectories
from workflows.results.sql.timing_table import timing_tables
from workflows.results.sql.view_columns import DOCUMENTS, PROBE_TEXTS, PROBES, ROWS, VIEW_COLUMNS
from workflows.store.layout import DETAILS, base_name, details_path, scored_name
from workflows.store.plan import SweepPlan

__all__ = ["UNEDITED", "VIEWS", "connect", "connect_roots", "query", "stream_name"]

VIEWS = tuple(VIEW_COLUMNS)
Checkpoints = Literal["every", "last"]

_QUALITY, _GENERAL = "edit_quality", "general"
_TEXTS = "probe_texts"
# What each public view is made of; the SQL of those with a file of their own is in views/.
_FROM_ROWS = ("scores", "unedited", "geometry", "geometry_means")
_FROM_TEXTS = ("texts", "edits")


@contextmanager
def connect(
    storage: Storage,
    plan: SweepPlan,
    *,
    views: Collection[str] = VIEWS,
    checkpoints: Checkpoints = "every",
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection on one sweep directory as it is now, as `connect_roots`."""
    with connect_roots([SweepRoot.of(storage, plan)], views=views, checkpoints=checkpoints) as connection:
        yield connection


@contextmanager
def connect_roots(
    roots: Sequence[SweepRoot],
    *,
    views: Collection[str] = VIEWS,
    checkpoints: Checkpoints = "every",
    locked: bool = False,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection with `planned`, `bases`, `rows` if named, and the views named; close it after the block.

    `checkpoints="last"` leaves the probes and documents of earlier checkpoints out. A `locked` connection opens no
    files but those of its views and keeps its settings, whatever a query says. Reads the plans' files (on an object
    store: fetches them to temporary files) and writes nothing. A view of which no file is stored has no rows.
    """
    with ExitStack() as opened:
        reader = _Reader(opened)
        # Sums depend on the order of their terms: on several threads the last digits differ from run to run.
        connection = opened.enter_context(duckdb.connect(config={"threads": 1}))
        connection.execute("SET parquet_metadata_cache = true")
        # A bar of its own would be part of what a command prints.
        connection.execute("SET enable_progress_bar = false")
        connection.register("planned", planned(roots))
        connection.register("bases", bases(roots))
        specs = read_specifications(roots) if {"trajectories", *_FROM_ROWS} & set(views) else {}
        if {"trajectories", "timings", "stages"} & set(views):
            for name, table in zip(("timings", "stages"), timing_tables(roots), strict=True):
                connection.register(name, table)
        if "trajectories" in views:
            connection.register("specifications", specifications(specs))
            connection.register("axes", axes(roots))
            _create(connection, "trajectories")
        else:
            connection.execute("CREATE VIEW trajectories AS FROM planned")
        if {"rows", *_FROM_ROWS} & set(views):
            layers = {key: tuple(spec.get("hyperparameters", {}).get("layers", ())) for key, spec in specs.items()}
            connection.register("starts", starts(roots, layers))
            _create_rows(connection, roots, reader)
        _create_details(connection, roots, views, checkpoints, reader)
        for name in (*_FROM_ROWS, *_FROM_TEXTS):
            if name in views or (name == "texts" and "edits" in views):
                _create(connection, name)
        if locked:
            reader.lock(connection)
        yield connection


def query(name: str) -> str:
    """Return the text of a query by its path below this folder, without `.sql`."""
    return package_files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def _create(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    connection.execute(query(f"views/{name}"))


def _create_rows(connection: duckdb.DuckDBPyConnection, roots: Sequence[SweepRoot], reader: "_Reader") -> None:
    edited: dict[str, list[str]] = {}
    for root, found in owned_trajectories(roots):
        sources, files = root.row_sources(found.plan), root.row_paths(found.plan)
        sound = reader.paths(root, sources)
        if not sound and sources != files:
            # A damaged compacted file takes no rows away: it is a cache, and the row files hold them.
            sound = reader.paths(root, files)
        edited.setdefault(root.name, []).extend(sound)
    unedited = {
        root.name: reader.paths(root, sorted({base.rows_path for base in root.plan.bases} & root.files.rows))
        for root in roots
    }
    create_file_view(connection, "stored_rows", edited, ROWS, schemas=reader.schemas)
    _create(connection, "edited_rows")
    create_file_view(connection, "unedited_rows", unedited, ROWS, schemas=reader.schemas)
    connection.execute("CREATE VIEW rows AS FROM edited_rows UNION ALL FROM unedited_rows")


def _create_details(
    connection: duckdb.DuckDBPyConnection,
    roots: Sequence[SweepRoot],
    views: Collection[str],
    checkpoints: Checkpoints,
    reader: "_Reader",
) -> None:
    def files(folder: str, kind: str) -> dict[str, list[str]]:
        found = _details(roots, folder, kind, last=checkpoints == "last")
        return {root.name: reader.paths(root, paths) for root, paths in found}

    if "probes" in views:
        create_file_view(connection, "probe_answers", files("probes", _QUALITY), PROBES, schemas=reader.schemas)
        _create(connection, "probes")
    if "documents" in views:
        create_file_view(connection, "documents", files("documents", _GENERAL), DOCUMENTS, schemas=reader.schemas)
    if set(_FROM_TEXTS) & set(views):
        create_file_view(connection, "probe_texts", files(_TEXTS, _QUALITY), PROBE_TEXTS, schemas=reader.schemas)


def _details(roots: Sequence[SweepRoot], folder: str, kind: str, *, last: bool) -> list[tuple[SweepRoot, list[str]]]:
    """Return the detail files of all checkpoints that are scored whole (rows are written last) and unedited models.

    The texts of probes depend on the stream alone, so that they count before their model is scored whole.
    """
    wanted: dict[str, list[str]] = {
        root.name: [
            details_path(folder, base_name(base.model_digest), base.evaluation.id)
            for base in root.plan.bases
            if base.evaluation.kind == kind and (folder == _TEXTS or base.rows_path in root.files.rows)
        ]
        for root in roots
    }
    for root, found in owned_trajectories(roots):
        every = sorted(root.files.checkpoints.get(found.plan.id, ()))
        if folder == "documents" and found.plan.parent is not None:
            # As of rows: what is read beside edited checkpoints is the end of a fine-tuning.
            every = every[-1:]
        for edits in found.to_score[-1:] if last else every:
            wanted[root.name] += [
                details_path(folder, scored_name(found.plan.id, edits), evaluation.id)
                for evaluation in found.plan.evaluations
                if evaluation.kind == kind and found.plan.rows_path(edits, evaluation) in root.files.rows
            ]
    stored = {root.name: set(root.storage.list(f"{DETAILS}/{folder}")) for root in roots}
    return [(root, [path for path in dict.fromkeys(wanted[root.name]) if path in stored[root.name]]) for root in roots]


class _Reader:
    """The files of one connection's views, as local paths with the stored schema of each."""

    def __init__(self, opened: ExitStack) -> None:
        self._own = LocalFiles(opened)
        self.schemas: dict[str, bytes | None] = {}

    def paths(self, root: SweepRoot, names: Sequence[str]) -> list[str]:
        """Return local paths of a root's files without the damaged ones; what the root's block has read is kept."""
        local = root.local or self._own
        found = local.paths(root.storage, names)
        self.schemas |= {path: local.schemas[path] for path in found}
        return found

    def lock(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Keep a connection to these files, and its settings as they are."""
        quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in self.schemas)
        connection.execute(f"SET allowed_paths = [{quoted}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
