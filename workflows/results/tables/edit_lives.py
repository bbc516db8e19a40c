"""The history of single edits with their texts, and the edits that were lost most often."""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.sql.connect import connect, query
from workflows.results.tables.retention import require_probes
from workflows.store.plan import SweepPlan

__all__ = ["EditChoice", "edit_lives", "forgotten_edits"]


@dataclass(frozen=True)
class EditChoice:
    """Which edits: part of the prompt, the case id, the 1-based place in the stream, the method; empty: any."""

    subject: str = ""
    case: str = ""
    edit: int = 0
    method: str = ""


def edit_lives(storage: Storage, plan: SweepPlan, choice: EditChoice, *, role: str, protocol: str) -> pa.Table:
    """Return one row per edit chosen and checkpoint: texts, whether it was right, the targets' probabilities.

    A probability is that of all tokens of a target, from the natural exponent of its summed log-likelihood. Raises
    InputError if nothing is stored, and if no edit is chosen.
    """
    with connect(storage, plan, views=("probes", "edits")) as connection:
        _answered(connection, storage.uri, role, protocol)
        parameters = {"subject": choice.subject, "case": choice.case, "edit": choice.edit, "method": choice.method}
        found = connection.sql(query("report/lives"), params=parameters).to_arrow_table()
    if not found.num_rows:
        wanted = ", ".join(f"{name} {value!r}" for name, value in parameters.items() if value)
        raise InputError(
            f"no scored edit has {wanted}",
            where=storage.uri,
            remedy="--subject takes any part of the prompt; 'sphere edits ROOT' lists edits that were lost",
        )
    return found


def forgotten_edits(
    connection: duckdb.DuckDBPyConnection, *, top: int, role: str, protocol: str, where: str
) -> tuple[pa.Table, pa.Table]:
    """Return the edits that the largest share of trajectories learned and lost, and their probabilities over edits.

    Learned: right at the first checkpoint after writing; lost: wrong at the last. The connection has the views
    `probes` and `edits`. Raises InputError if no probes are stored.
    """
    _answered(connection, where, role, protocol)
    lost = connection.sql(query("report/forgotten"), params={"top": top}).to_arrow_table()
    cases = lost["case_id"].to_pylist()
    paths = connection.sql(query("report/paths"), params={"cases": cases}).to_arrow_table()
    return lost, paths


def _answered(connection: duckdb.DuckDBPyConnection, where: str, role: str, protocol: str) -> None:
    """Make the table `answered` of the answers to one role's probes."""
    require_probes(connection, where=where)
    parameters = {"role": role, "protocol": protocol}
    connection.execute(f"CREATE TABLE answered AS {query('report/answers')}", parameters)
