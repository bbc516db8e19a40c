"""The seconds that a sweep's work took, by piece of work and by stage of it, from the records below `timings/`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.sql.plan_tables import UNEDITED
from workflows.results.sql.sweep_roots import SweepRoot, owned_trajectories
from workflows.store.layout import EDIT_WORK, TIMINGS, TUNE_WORK, base_name, timed_work
from workflows.store.plan import TrajectoryPlan
from workflows.store.records import EditTiming, ScoreTiming

__all__ = ["STAGES_SCHEMA", "TIMINGS_SCHEMA", "WHOLE", "timing_tables"]

TIMINGS_SCHEMA = pa.schema(
    [
        ("root", pa.string()),
        ("trajectory_id", pa.string()),
        ("edits", pa.int64()),
        ("stage", pa.string()),
        ("evaluation_id", pa.string()),
        ("seconds", pa.float64()),
        *((name, pa.int64()) for name in ("edits_written", "rows", "attempt")),
        *((name, pa.string()) for name in ("device", "versions", "code_version", "code_commit")),
    ]
)
STAGES_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("root", "trajectory_id", "model", "method")),
        ("edits", pa.int64()),
        *((name, pa.string()) for name in ("work", "evaluation_id", "stage")),
        ("seconds", pa.float64()),
        ("beside", pa.bool_()),
        *((name, pa.int64()) for name in ("edits_written", "rows", "attempt", "threads")),
        *((name, pa.string()) for name in ("device", "versions", "code_version", "code_commit")),
    ]
)
# The one stage of records of releases that measured no stages.
WHOLE = "whole"


def timing_tables(roots: Sequence[SweepRoot]) -> tuple[pa.Table, pa.Table]:
    """Return what is stored and readable, one row per piece of work and one per stage of it.

    Their schemas are TIMINGS_SCHEMA and STAGES_SCHEMA.
    """
    owners = {found.plan.id: (root, found.plan) for root, found in owned_trajectories(roots)}
    records = [record for root in roots for record in _of_root(root, owners)]
    titles = {found.plan.id: (found.plan.model, found.plan.title) for _, found in owned_trajectories(roots)}
    stages = [stage for record in records for stage in _stages(record, titles)]
    return table_of_records(records, TIMINGS_SCHEMA), table_of_records(stages, STAGES_SCHEMA)


def _stages(record: Mapping[str, Any], titles: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, object]]:
    model, method = titles.get(record["trajectory_id"], (record["base_model"], UNEDITED))
    lap = {name: record[name] for name in STAGES_SCHEMA.names if name in record}
    lap |= {"model": model, "method": method, "work": record["stage"]}
    for beside, seconds in ((False, record["spent"]), (True, record["beside"])):
        for stage, number in seconds.items():
            yield lap | {"stage": stage, "seconds": number, "beside": beside}


def _of_root(root: SweepRoot, owners: Mapping[str, tuple[SweepRoot, TrajectoryPlan]]) -> Iterator[dict[str, object]]:
    models = {base_name(base.model_digest): base.model for base in root.plan.bases}
    for path in root.storage.list(TIMINGS):
        work = timed_work(path)
        if work is None:
            continue
        owner, plan = (root, None) if work.trajectory_id is None else owners.get(work.trajectory_id, (None, None))
        kind = EditTiming if work.stage in (EDIT_WORK, TUNE_WORK) else ScoreTiming
        found = kind.read(root.storage, path) if owner is root else None
        if found is None:
            continue
        versions = found.versions or {}
        lap = found if isinstance(found, EditTiming) else None
        yield {
            "root": root.name,
            "trajectory_id": work.trajectory_id,
            "edits": 0 if plan is None else plan.edits_at(work.position),
            "stage": work.stage,
            "evaluation_id": work.evaluation_id,
            "seconds": found.seconds,
            "edits_written": lap.edits_in_lap if lap is not None and work.stage == EDIT_WORK else None,
            "rows": found.rows if isinstance(found, ScoreTiming) else None,
            "attempt": None if lap is None else lap.attempt,
            "device": found.device or None,
            "code_version": versions.get("sphere"),
            "code_commit": versions.get("commit"),
            "base_model": None if work.base is None else models.get(work.base),
            "spent": found.stages or {WHOLE: found.seconds},
            "beside": found.beside or {},
            "threads": found.threads,
            "versions": _versions(versions),
        }


def _versions(found: Mapping[str, str]) -> str | None:
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()) if name != "commit") or None
