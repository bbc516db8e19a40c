"""The seconds that a sweep's work took, one row for each piece of it, from the records below `timings/`."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sphere_core.foundation.storage import Storage
from workflows.results.arrow_tables import table_of_records
from workflows.results.sql.sweep_roots import SweepRoot, owned_trajectories
from workflows.store.layout import TIMINGS, environment_path

__all__ = ["TIMINGS_SCHEMA", "timings"]

TIMINGS_SCHEMA = pa.schema(
    [
        ("root", pa.string()),
        ("trajectory_id", pa.string()),
        ("edits", pa.int64()),
        ("stage", pa.string()),
        ("evaluation_id", pa.string()),
        ("seconds", pa.float64()),
        *((name, pa.int64()) for name in ("edits_written", "rows", "attempt")),
        *((name, pa.string()) for name in ("device", "code_version", "code_commit", "environment")),
    ]
)
# timings/edit/TRAJECTORY-EDITS.json; timings/EVALUATOR/SUBJECT-EVALUATION.json, the subject an edit's or base-MODEL.
_NAME = re.compile(r"timings/(?P<stage>[^/]+)/(?P<subject>[0-9A-Za-z_]+)-(?P<rest>[0-9a-zA-Z-]+)\.json")


def timings(roots: Sequence[SweepRoot]) -> pa.Table:
    """Return one row per piece of work whose record is stored and readable (schema: TIMINGS_SCHEMA)."""
    owners = {found.plan.id: root for root, found in owned_trajectories(roots)}
    records = [record for root in roots for record in _of_root(root, owners)]
    return table_of_records(records, TIMINGS_SCHEMA)


def _of_root(root: SweepRoot, owners: Mapping[str, SweepRoot]) -> Iterator[dict[str, object]]:
    environments: dict[str, Mapping[str, Any]] = {}
    for path in root.storage.list(TIMINGS):
        named = _NAME.fullmatch(path)
        found = _json(root.storage, path)
        if named is None or not found:
            continue
        subject, parts = named["subject"], named["rest"].split("-")
        is_base = subject == "base"
        if not is_base and owners.get(subject) is not root:
            continue
        environment = str(found.get("environment") or "")
        if environment and environment not in environments:
            environments[environment] = _json(root.storage, environment_path(environment))
        code = environments.get(environment, {})
        yield {
            "root": root.name,
            "trajectory_id": None if is_base else subject,
            "edits": 0 if is_base else int(parts[0]),
            "stage": named["stage"],
            "evaluation_id": parts[1] if len(parts) > 1 else None,
            "seconds": found.get("seconds"),
            "edits_written": found.get("edits_in_lap"),
            "rows": found.get("rows"),
            "attempt": found.get("attempt"),
            "device": found.get("device") or None,
            "code_version": code.get("version"),
            "code_commit": code.get("commit"),
            "environment": environment or None,
        }


def _json(storage: Storage, path: str) -> dict[str, Any]:
    try:
        found = json.loads(storage.read_bytes(path))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
