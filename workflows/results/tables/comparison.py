"""Two sweep directories compared: the same cells paired, and what differed in spec, code and devices."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.sql.connect import connect_roots, query
from workflows.results.sql.plan_tables import leaves, read_specifications
from workflows.results.sql.sweep_roots import SweepRoot

__all__ = ["CELLS", "DIFFERENCES", "SweepComparison", "compare_sweeps"]

# Everything that names a cell; a trajectory id is left out, because a changed hyperparameter changes it.
_CELL = ("model", "dataset", "stream_order", "method", "seed", "edits", "metric", "protocol", "task")
CELLS = pa.schema(
    [(name, pa.int64() if name in ("seed", "edits") else pa.string()) for name in _CELL]
    + [(name, pa.float64()) for name in ("first", "second", "difference")]
    + [("first_status", pa.string()), ("second_status", pa.string()), ("same_trajectory", pa.bool_())]
)
DIFFERENCES = pa.schema(
    [(name, pa.string()) for name in ("kind", "trajectory", "field", "first", "second")] + [("count", pa.int64())]
)
_WORK = ("code_version", "code_commit", "device")


@dataclass(frozen=True)
class SweepComparison:
    """Cells that both have, how many only one has, and what differed."""

    cells: pa.Table
    equal: int
    only_first: int
    only_second: int
    differences: pa.Table


def compare_sweeps(first: SweepRoot, second: SweepRoot) -> SweepComparison:
    """Compare two sweep directories cell by cell; reads both and writes nothing.

    A cell is a score at one checkpoint, named by model, stream, method, seed, edits, metric, protocol and task.
    """
    found = [_read(root) for root in (first, second)]
    left, right = (scores for scores, _ in found)
    common = [cell for cell in left if cell in right]
    pairs = [_pair(cell, left[cell], right[cell]) for cell in common]
    differing = [pair for pair in pairs if not _equal(pair)]
    differences = [*_specifications(first, second), *_work(found[0][1], found[1][1])]
    return SweepComparison(
        table_of_records(differing, CELLS),
        len(pairs) - len(differing),
        len(left) - len(common),
        len(right) - len(common),
        table_of_records(differences, DIFFERENCES),
    )


def _read(root: SweepRoot) -> tuple[dict[tuple[Any, ...], dict[str, Any]], list[dict[str, Any]]]:
    with connect_roots([root], views=("scores", "geometry_means", "trajectories")) as connection:
        scores = connection.sql(query("compared")).to_arrow_table().to_pylist()
        work = connection.sql("SELECT method, seed, code_version, code_commit, device FROM trajectories")
        return {tuple(row[name] for name in _CELL): row for row in scores}, work.to_arrow_table().to_pylist()


def _pair(cell: tuple[Any, ...], left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    values = (left["value"], right["value"])
    difference = None if None in values else right["value"] - left["value"]
    record = dict(zip(_CELL, cell, strict=True)) | {"first": values[0], "second": values[1], "difference": difference}
    record |= {"first_status": left["status"], "second_status": right["status"]}
    return record | {"same_trajectory": left["trajectory_id"] == right["trajectory_id"]}


def _equal(pair: dict[str, Any]) -> bool:
    return bool(pair["first"] == pair["second"] and pair["first_status"] == pair["second_status"])


def _specifications(first: SweepRoot, second: SweepRoot) -> list[dict[str, object]]:
    """Return the fields of the specifications that differ between trajectories of one name, and names of one root."""
    known = [_flat_specifications(root) for root in (first, second)]
    differences: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    for name in known[0].keys() | known[1].keys():
        left, right = (specs.get(name) for specs in known)
        if left is None or right is None:
            has = ("planned", None) if right is None else (None, "planned")
            differences.setdefault(("plan", "trajectory", *has), []).append(name)
            continue
        for key in sorted(left.keys() | right.keys()):
            if left.get(key) != right.get(key):
                differences.setdefault(("spec", key, left.get(key), right.get(key)), []).append(name)
    return _counted(differences)


def _counted(differences: dict[tuple[str, str, str | None, str | None], list[str]]) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    for (kind, key, left, right), names in sorted(differences.items(), key=lambda item: tuple(map(str, item[0]))):
        shown = min(names) if len(names) == 1 else f"{min(names)} and {len(names) - 1} more"
        record: dict[str, object] = {"kind": kind, "trajectory": shown, "field": key}
        records.append(record | {"first": left, "second": right, "count": len(names)})
    return records


def _flat_specifications(root: SweepRoot) -> dict[str, dict[str, str]]:
    specs = read_specifications([root])
    flat = {}
    for plan in root.plan.trajectories:
        name = f"{plan.model}, {plan.dataset}, {plan.order}, {plan.title}, seed {plan.seed}"
        fields = {path: json.dumps(value) for path, value in leaves(specs.get(plan.id, {}))}
        fields["wanted"] = json.dumps(plan.wanted)
        fields |= {f"evaluation of {one.kind}": one.id for one in plan.evaluations}
        flat[name] = fields
    return flat


def _work(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Return versions, commits and devices that the two were not made with alike, as far as they are recorded."""
    records: list[dict[str, object]] = []
    for field in _WORK:
        values = [", ".join(sorted({str(row[field]) for row in rows if row[field]})) or None for rows in (left, right)]
        if values[0] != values[1]:
            record = {"kind": "work", "trajectory": "all", "field": field, "first": values[0], "second": values[1]}
            records.append(record | {"count": max(len(left), len(right))})
    return records
