"""The history of every edit: forgetting curves, cohorts, survival, from the stored probes of all checkpoints."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb
import pyarrow as pa

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import load_object
from sphere_core.foundation.storage import Storage
from workflows.results.arrow_tables import empty_table
from workflows.results.sql.connect import connect_roots, query
from workflows.results.sql.sweep_roots import SweepRoot, owned_trajectories
from workflows.store.layout import keys_folder
from workflows.store.plan import TrajectoryPlan

__all__ = ["RETENTION_TABLES", "RetentionAsk", "RetentionTables", "require_probes", "retention_sql", "retention_table"]

# The queries of each table, in order, below results/sql/retention.
_ANSWERS = ("intervals", "answers", "lives")
_TABLES: dict[str, tuple[str, ...]] = {
    "summary": ("areas", "ends"),
    "curve": (),
    "cohorts": (),
    "ages": (),
    "origins": (),
    "auc": ("areas",),
    "order": ("areas", "ends"),
    "edits": (),
    "survival": (),
    "predictors": (),
    "finetune": (),
}
RETENTION_TABLES = tuple(_TABLES)
_COMPARES_KEYS = ("edits", "survival", "predictors")
_NO_KEYS = pa.schema([("trajectory_id", pa.string()), ("edit", pa.int32()), ("edits", pa.int64())])


@dataclass(frozen=True)
class RetentionAsk:
    """The table, its probes, and the measure of success.

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
    """Return the SQL of a table as it runs in DuckDB, with values in place of parameters.

    `PROBES` stands for the Parquet files; `trajectories`, `edits` and `similarity` are views of
    `workflows.results.sql.connect`. A width that is the sweep's checkpoint interval stays a parameter.
    """
    values: dict[str, object] = {"role": ask.role, "protocol": ask.protocol, "measure": ask.measure}
    values |= {k: v for k, v in (("cohort", ask.cohort), ("batches", ask.batches)) if v is not None}
    parts = ["CREATE VIEW probes AS SELECT * FROM read_parquet(PROBES, union_by_name = true)"]
    parts += [query(f"retention/{name}") for name in (*_ANSWERS, *_TABLES[ask.name], ask.name)]
    return ";\n".join(_with_values(part.strip().removesuffix(";"), values) for part in parts) + ";\n"


def retention_table(roots: Sequence[SweepRoot], ask: RetentionAsk) -> pa.Table:
    """Answer one query from the probes of all scored checkpoints; raises InputError if none are stored."""
    stored = [(root.storage, found.plan) for root, found in owned_trajectories(roots)]
    with connect_roots(roots, views=("probes", "edits")) as connection:
        return RetentionTables(connection, stored, ask).table(ask)


class RetentionTables:
    """The tables of one role, protocol and measure on one connection, which gathers the answers once."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        stored: Sequence[tuple[Storage, TrajectoryPlan]],
        ask: RetentionAsk,
    ) -> None:
        """Gather the answers on a connection with `probes` and `edits`; raises InputError if none are stored.

        `stored` are the trajectories, each with the storage that its files are read from; fine-tunings are left out.
        """
        self._connection = connection
        self._stored = [(storage, plan) for storage, plan in stored if plan.parent is None]
        self._made: set[str] = set()
        require_probes(connection, where=stored[0][0].uri)
        for name in _ANSWERS:
            connection.execute(*_query(name, _values(ask)))
        if not connection.sql("FROM answers LIMIT 1").fetchall():
            raise _nothing_asked(connection, ask)

    def table(self, ask: RetentionAsk) -> pa.Table:
        """Return a table; `ask` must name the role, protocol and measure that the answers were gathered for."""
        similar = _similarity(self._stored) if ask.name in _COMPARES_KEYS else None
        self._connection.register("similarity", empty_table(_NO_KEYS) if similar is None else similar)
        values = _values(ask) | _widths([plan for _, plan in self._stored], ask)
        for name in _TABLES[ask.name]:
            if name not in self._made:
                self._connection.execute(*_query(name, values))
                self._made.add(name)
        text, own = _query(ask.name, values)
        found = self._connection.sql(text, params=own).to_arrow_table()
        if ask.name == "finetune" and not found.num_rows:
            raise InputError(
                "no fine-tuning is scored here",
                where="sphere retention",
                remedy="add `afterwards` to the sweep and run it; 'sphere status' shows what is scored",
            )
        return found


def require_probes(connection: duckdb.DuckDBPyConnection, *, where: str) -> None:
    """Raise InputError if the view `probes` of a connection holds no answer of an edited model."""
    if not connection.sql("FROM probes WHERE trajectory_id IS NOT NULL LIMIT 1").fetchall():
        raise InputError(
            "no scored probes are stored here",
            where=where,
            remedy="run the sweep with the evaluator edit_quality; 'sphere status' shows what is scored",
        )


def _values(ask: RetentionAsk) -> dict[str, object]:
    return {"role": ask.role, "protocol": ask.protocol, "measure": ask.measure}


def _query(name: str, values: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """Return a query with those of the values that it names."""
    text = query(f"retention/{name}")
    return text, {key: value for key, value in values.items() if f"${key}" in text}


def _with_values(text: str, values: Mapping[str, object]) -> str:
    """Return a query to print: parameters as literals, quotes doubled."""

    def literal(match: re.Match[str]) -> str:
        if match[1] not in values:
            return match[0]
        value = values[match[1]]
        return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"

    return re.sub(r"\$(\w+)", literal, text)


def _similarity(stored: Sequence[tuple[Storage, TrajectoryPlan]]) -> pa.Table | None:
    # Cosines of keys are torch's; without stored keys, and for every other table, it is not loaded.
    stored = [(storage, plan) for storage, plan in stored if storage.list(keys_folder(plan.id))]
    if not stored:
        return None
    later_similarity = load_object("workflows.results.tables.key_similarity:later_similarity")
    found = [table for storage, plan in stored if (table := later_similarity(storage, plan)) is not None]
    return pa.concat_tables(found, promote_options="default") if found else None


def _widths(plans: Sequence[TrajectoryPlan], ask: RetentionAsk) -> dict[str, int]:
    """Return the size of cohorts and of age bins: as given, else one checkpoint interval."""
    interval = min(plan.wanted[0] for plan in plans)
    return {
        "cohort": ask.cohort if ask.cohort is not None else interval,
        "batches": ask.batches if ask.batches is not None else max(1, interval // min(one.batch_size for one in plans)),
    }


def _nothing_asked(connection: duckdb.DuckDBPyConnection, ask: RetentionAsk) -> InputError:
    found = connection.sql("SELECT DISTINCT role || ' under ' || protocol FROM probes ORDER BY 1").fetchall()
    return InputError(
        f"no {ask.role} probe was scored under protocol '{ask.protocol}' by measure '{ask.measure}'",
        where="sphere retention",
        remedy=f"stored: {', '.join(name for (name,) in found)}; the measure 'probability' needs a contrast",
    )
