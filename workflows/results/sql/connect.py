"""A sweep as views of one DuckDB connection: what every table, figure and query reads.

| view | one row for |
|---|---|
| `trajectories` | a trajectory of the plan, in its order (`place`); `last_edits` is the checkpoint that ends it |
| `bases` | an unedited model under one evaluator, in each stream that starts from it |
| `scores` | a row of the row files (`workflows.store.row_schema`): trajectories and unedited models of the plan |
| `edits` | an edit of a trajectory: its case id, prompt, target and contrast |
| `probes` | an answer to a probe, at every checkpoint that is scored whole |
| `documents` | a document of a general-ability task and what the model made of it |

`scores`, `probes` and `documents` join `trajectories` by `trajectory_id`, which is NULL for unedited models; these join
`bases` by `model_digest`, `dtype`, `evaluator` and `evaluation_id`. `edits` joins `probes` by `trajectory_id`, `edit`.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files as package_files
from typing import Any, Literal

import duckdb
import pyarrow as pa

from sphere_core.foundation.storage import Storage
from workflows.results.arrow_tables import empty_table, table_of_records
from workflows.store.layout import DETAILS, base_name, details_path, scored_name
from workflows.store.plan import SweepPlan, TrajectoryPlan
from workflows.store.row_reader import read_rows
from workflows.store.row_schema import ROW_SCHEMA
from workflows.store.state import SweepFiles, SweepState, derive_state, scan

__all__ = ["UNEDITED", "VIEWS", "connect", "query", "stream_name"]

VIEWS = ("scores", "edits", "probes", "documents")
UNEDITED = "(unedited)"

_QUALITY, _GENERAL = "edit_quality", "general"
_STRINGS = ("trajectory_id", "model", "model_digest", "dtype", "stream", "dataset", "stream_order", "stream_digest")
_TRAJECTORIES = pa.schema(
    [("place", pa.int64())]
    + [(name, pa.string()) for name in (*_STRINGS, "method", "composition", "editor", "regularizer")]
    + [(name, pa.int64()) for name in ("seed", "batch_size", "planned_edits", "last_edits")]
)
_BASES = pa.schema(
    [("place", pa.int64())]
    + [(n, pa.string()) for n in ("model", "stream", "method", "model_digest", "dtype", "evaluator", "evaluation_id")]
)
# What was scored and by what: columns that every detail file begins with.
_SUBJECT = pa.schema([ROW_SCHEMA.field(name) for name in ROW_SCHEMA.names[1 : ROW_SCHEMA.names.index("metric")]])
_EDITS = pa.schema(
    [("trajectory_id", pa.string()), ("edit", pa.int32())]
    + [(name, pa.string()) for name in ("case_id", "prompt", "target", "contrast")]
)


@contextmanager
def connect(
    storage: Storage,
    plan: SweepPlan,
    *,
    views: Collection[str] = VIEWS,
    checkpoints: Literal["every", "last"] = "every",
    state: SweepState | None = None,
    files: SweepFiles | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection with `trajectories`, `bases` and the views named; close it at the end of the block.

    `checkpoints="last"` leaves the probes and documents of earlier checkpoints out. Reads the plan's row and detail
    files below `storage` (on an object store: fetches them to temporary files) and writes nothing. `state` and `files`
    are taken instead of listing the storage again. A view of which no file is stored has no rows.
    """
    found = files if files is not None else scan(storage)
    known = state if state is not None else derive_state(storage, plan, found)
    with ExitStack() as opened:
        # Sums depend on the order of their terms: on several threads the last digits differ from run to run.
        connection = opened.enter_context(duckdb.connect(config={"threads": 1}))
        connection.register("trajectories", _trajectories(known))
        connection.register("bases", _bases(plan))
        if "scores" in views:
            connection.register("scores", read_rows(storage, plan, found))
        if "edits" in views:
            _register_edits(connection, storage, plan, opened)
        for view, kind in (("probes", _QUALITY), ("documents", _GENERAL)):
            if view in views:
                paths = _details(storage, plan, known, found, view, kind, last=checkpoints == "last")
                _register_files(connection, view, paths, opened, storage)
        yield connection


def query(name: str) -> str:
    """Return the text of a query by its path below this folder, without `.sql`."""
    return package_files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def stream_name(plan: TrajectoryPlan) -> str:
    """Return how tables call a trajectory's stream."""
    return f"{plan.dataset}, {plan.order}, {plan.edits} edits in batches of {plan.batch_size}"


def _trajectories(state: SweepState) -> pa.Table:
    records = [
        {
            "place": place,
            "trajectory_id": found.plan.id,
            "model": found.plan.model,
            "model_digest": found.plan.model_digest,
            "dtype": found.plan.dtype,
            "stream": stream_name(found.plan),
            "dataset": found.plan.dataset,
            "stream_order": found.plan.order,
            "stream_digest": found.plan.stream_digest,
            "method": found.plan.title,
            "composition": found.plan.method,
            "editor": found.plan.editor,
            "regularizer": found.plan.regularizer,
            "seed": found.plan.seed,
            "batch_size": found.plan.batch_size,
            "planned_edits": found.plan.edits,
            "last_edits": found.collapsed_at if found.collapsed_at is not None else found.plan.edits,
        }
        for place, found in enumerate(state.trajectories)
    ]
    return table_of_records(records, _TRAJECTORIES)


def _bases(plan: SweepPlan) -> pa.Table:
    """Return the unedited model's place in each stream: its own scores, or those that every stream shares."""
    streams = {(t.model, t.model_digest, t.dtype, stream_name(t), t.stream_digest) for t in plan.trajectories}
    records: dict[tuple[str, ...], dict[str, Any]] = {}
    for place, base in enumerate(plan.bases):
        for model, digest, dtype, stream, stream_digest in sorted(streams):
            same_model = (base.model_digest, base.dtype) == (digest, dtype)
            if same_model and base.stream_digest in (None, stream_digest):
                values = (model, stream, UNEDITED, digest, dtype, base.evaluation.kind, base.evaluation.id)
                records.setdefault(values, dict(zip(_BASES.names, (place, *values), strict=True)))
    return table_of_records(records.values(), _BASES)


def _details(
    storage: Storage,
    plan: SweepPlan,
    state: SweepState,
    files: SweepFiles,
    folder: str,
    kind: str,
    *,
    last: bool,
) -> list[str]:
    """Return the detail files of all checkpoints that are scored whole (rows are written last) and unedited models."""
    wanted = [
        details_path(folder, base_name(base.model_digest), base.evaluation.id)
        for base in plan.bases
        if base.evaluation.kind == kind and base.rows_path in files.rows
    ]
    for found in state.trajectories:
        every = sorted(files.checkpoints.get(found.plan.id, ()))
        for edits in found.to_score[-1:] if last else every:
            wanted += [
                details_path(folder, scored_name(found.plan.id, edits), evaluation.id)
                for evaluation in found.plan.evaluations
                if evaluation.kind == kind and found.plan.rows_path(edits, evaluation) in files.rows
            ]
    stored = set(storage.list(f"{DETAILS}/{folder}"))
    return [path for path in dict.fromkeys(wanted) if path in stored]


def _register_files(
    connection: duckdb.DuckDBPyConnection, view: str, paths: list[str], opened: ExitStack, storage: Storage
) -> None:
    if not paths:
        connection.register(view, empty_table(_SUBJECT))
        return
    local = [str(opened.enter_context(storage.as_file(path))) for path in paths]
    connection.read_parquet(local, union_by_name=True).create_view(view)


def _register_edits(
    connection: duckdb.DuckDBPyConnection, storage: Storage, plan: SweepPlan, opened: ExitStack
) -> None:
    """Register the edits of every trajectory, as far as the unedited model was asked its stream."""
    bases = [base for base in plan.bases if base.evaluation.kind == _QUALITY]
    paths = [details_path("probe_texts", base_name(base.model_digest), base.evaluation.id) for base in bases]
    stored = set(storage.list(f"{DETAILS}/probe_texts"))
    texts = [path for path in dict.fromkeys(paths) if path in stored]
    if not texts:
        connection.register("edits", empty_table(_EDITS))
        return
    _register_files(connection, "probe_texts", texts, opened, storage)
    connection.execute(query("edits"))
