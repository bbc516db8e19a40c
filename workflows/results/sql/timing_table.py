"""The seconds that a sweep's work took, by piece of work and by stage of it, from the records below `timings/`."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sphere_core.foundation.storage import Storage
from workflows.results.arrow_tables import table_of_records
from workflows.results.sql.plan_tables import UNEDITED
from workflows.results.sql.sweep_roots import SweepRoot, owned_trajectories
from workflows.store.layout import TIMINGS, base_name
from workflows.store.plan import TrajectoryPlan

__all__ = ["EDIT_WORK", "STAGES_SCHEMA", "TIMINGS_SCHEMA", "WHOLE", "timing_tables"]

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
# The work that is not an evaluator's, and the one stage of records of releases that measured no stages.
EDIT_WORK, WHOLE = "edit", "whole"
# timings/edit/TRAJECTORY-EDITS.json; timings/EVALUATOR/SUBJECT-EVALUATION.json, the subject an edit's or base-MODEL.
_NAME = re.compile(r"timings/(?P<stage>[^/]+)/(?P<subject>[0-9A-Za-z_]+)-(?P<rest>[0-9a-zA-Z-]+)\.json")


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
        named = _NAME.fullmatch(path)
        found = _json(root.storage, path)
        if named is None or not found:
            continue
        subject, parts = named["subject"], named["rest"].split("-")
        is_base = subject == "base"
        owner, plan = owners.get(subject, (None, None))
        if not is_base and owner is not root:
            continue
        versions = found.get("versions") or {}
        yield {
            "root": root.name,
            "trajectory_id": None if is_base else subject,
            "edits": 0 if plan is None else plan.edits_at(int(parts[0])),
            "stage": named["stage"],
            "evaluation_id": parts[1] if len(parts) > 1 else None,
            "seconds": found.get("seconds"),
            "edits_written": found.get("edits_in_lap") if plan is None or plan.parent is None else None,
            "rows": found.get("rows"),
            "attempt": found.get("attempt"),
            "device": found.get("device") or None,
            "code_version": versions.get("sphere"),
            "code_commit": versions.get("commit"),
            "base_model": models.get(f"base-{parts[0]}") if is_base else None,
            "spent": found.get("stages") or {WHOLE: found.get("seconds")},
            "beside": found.get("beside") or {},
            "threads": found.get("threads"),
            "versions": _versions(versions),
        }


def _versions(found: Mapping[str, str]) -> str | None:
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()) if name != "commit") or None


def _json(storage: Storage, path: str) -> dict[str, Any]:
    try:
        found = json.loads(storage.read_bytes(path))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
