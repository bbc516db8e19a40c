"""What became of every edit: forgetting curves, cohorts, survival, from the stored probes of all checkpoints."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.tables.key_similarity import later_similarity, similarity_columns
from workflows.results.tables.retention_queries import ANSWERS, LIVES, MACROS, MEASURES, table_query
from workflows.results.tables.table import stream_name
from workflows.store.layout import DETAILS, base_name, details_path, scored_name
from workflows.store.plan import SweepPlan, TrajectoryPlan
from workflows.store.state import SweepFiles, scan

__all__ = ["RetentionAsk", "retention_sql", "retention_table"]

_KIND = "edit_quality"
_COMPARES_KEYS = ("edits", "survival", "predictors")
_NO_KEYS = pa.schema([("trajectory_id", pa.string()), ("edit", pa.int32()), ("edits", pa.int64())])


@dataclass(frozen=True)
class RetentionAsk:
    """Which table, of which probes, judged how.

    `cohort` is the size of the first and latest cohorts, `batches` the width of an age bin in batches; None: one
    checkpoint interval.
    """

    name: str
    role: str
    protocol: str
    measure: Literal["argmax", "probability"]
    cohort: int | None = None
    batches: int | None = None


def retention_sql(ask: RetentionAsk) -> str:
    """Return the SQL of a table: macros, the tables `answers` and `lives`, and the query on them.

    The columns of key similarity, which depend on the layers edited, are left out.
    """
    parts = [MACROS, _answers(ask, "SELECT * FROM read_parquet(PROBES)"), LIVES, table_query(ask.name, ())]
    return ";\n".join(part.strip().removesuffix(";") for part in parts) + ";\n"


def retention_table(storage: Storage, plan: SweepPlan, ask: RetentionAsk) -> pa.Table:
    """Answer one query from the probes of all scored checkpoints; raises InputError where none are stored."""
    files = scan(storage)
    with ExitStack() as opened, duckdb.connect() as connection:
        probes = [str(opened.enter_context(storage.as_file(path))) for path in _stored_probes(storage, plan, files)]
        if not probes:
            raise InputError(
                "no scored probes are stored here",
                where=storage.uri,
                remedy="run the sweep with the evaluator edit_quality; 'sphere status' shows what is scored",
            )
        connection.register("trajectories", _trajectories(plan))
        connection.register("cases", _cases(storage, plan))
        connection.execute(MACROS)
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in probes)
        connection.execute(_answers(ask, f"SELECT * FROM read_parquet([{listed}], union_by_name = true)"))
        connection.execute(LIVES)
        if connection.sql("SELECT count(*) FROM answers").fetchall() == [(0,)]:
            raise _nothing_asked(connection, listed, ask)
        similar = _similarity(storage, plan) if ask.name in _COMPARES_KEYS else None
        connection.register("similarity", _NO_KEYS.empty_table() if similar is None else similar)
        query = table_query(ask.name, similarity_columns(similar))
        values = _widths(plan, ask)
        return connection.sql(query, params={k: v for k, v in values.items() if f"${k}" in query}).to_arrow_table()


def _answers(ask: RetentionAsk, probes: str) -> str:
    return ANSWERS.format(worth=MEASURES[ask.measure], probes=probes, role=ask.role, protocol=ask.protocol)


def _stored_probes(storage: Storage, plan: SweepPlan, files: SweepFiles) -> list[str]:
    """Return the files of all checkpoints that are scored whole: their rows, which are written last, stand."""
    whole = [
        details_path("probes", scored_name(trajectory.id, edits), evaluation.id)
        for trajectory in plan.trajectories
        for edits in sorted(files.checkpoints.get(trajectory.id, ()))
        for evaluation in trajectory.evaluations
        if evaluation.kind == _KIND and trajectory.rows_path(edits, evaluation) in files.rows
    ]
    stored = set(storage.list(f"{DETAILS}/probes"))
    return [path for path in whole if path in stored]


def _trajectories(plan: SweepPlan) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "place": place,
                "trajectory_id": trajectory.id,
                "model": trajectory.model,
                "stream": stream_name(trajectory),
                "dataset": trajectory.dataset,
                "order": trajectory.order,
                "method": trajectory.title,
                "seed": trajectory.seed,
                "batch_size": trajectory.batch_size,
                "planned": trajectory.edits,
            }
            for place, trajectory in enumerate(plan.trajectories)
        ]
    )


def _similarity(storage: Storage, plan: SweepPlan) -> pa.Table | None:
    found = [table for trajectory in plan.trajectories if (table := later_similarity(storage, trajectory)) is not None]
    return pa.concat_tables(found, promote_options="default") if found else None


def _cases(storage: Storage, plan: SweepPlan) -> pa.Table:
    """Return the case ids of every trajectory's edits, as far as the unedited model has been asked its stream."""
    schema = pa.schema([("trajectory_id", pa.string()), ("edit", pa.int32()), ("case_id", pa.string())])
    found = [schema.empty_table()]
    for base in plan.bases:
        path = details_path("probe_texts", base_name(base.model_digest), base.evaluation.id)
        if base.evaluation.kind != _KIND or not storage.exists(path):
            continue
        with storage.as_file(path) as file:
            texts = pq.read_table(file, columns=["edit", "case_id"], filters=[("probe", "=", 0)])
        for trajectory in plan.trajectories:
            if (trajectory.stream_digest, trajectory.model_digest) == (base.stream_digest, base.model_digest):
                names = pa.array([trajectory.id] * texts.num_rows, pa.string())
                found.append(texts.add_column(0, "trajectory_id", names).cast(schema))
    return pa.concat_tables(found)


def _widths(plan: SweepPlan, ask: RetentionAsk) -> dict[str, int]:
    """Return the size of cohorts and of age bins: as asked, else one checkpoint interval."""
    first: TrajectoryPlan = plan.trajectories[0]
    interval = min(trajectory.wanted[0] for trajectory in plan.trajectories)
    return {
        "cohort": ask.cohort if ask.cohort is not None else interval,
        "batches": ask.batches if ask.batches is not None else max(1, interval // first.batch_size),
    }


def _nothing_asked(connection: duckdb.DuckDBPyConnection, files: str, ask: RetentionAsk) -> InputError:
    found = connection.sql(
        f"SELECT DISTINCT role || ' under ' || protocol FROM read_parquet([{files}], union_by_name = true) ORDER BY 1"
    ).fetchall()
    return InputError(
        f"no {ask.role} probe was scored under protocol '{ask.protocol}' by measure '{ask.measure}'",
        where="sphere retention",
        remedy=f"stored: {', '.join(name for (name,) in found)}; the measure 'probability' needs a contrast",
    )
