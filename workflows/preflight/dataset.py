"""What a data set holds, from its records alone: counts, digests, probes by role, edits that repeat or contradict."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sphere_core.datasets.outside import EMBEDDED, find_schema
from sphere_core.datasets.schemas import SCHEMAS
from sphere_core.datasets.sources import Dataset, DatasetSpec
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.requests import EditRequest, requests_digest
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["dataset_record", "dataset_table"]


def dataset_record(spec: DatasetSpec, found: Dataset, plugins: Plugins = NO_PLUGINS) -> dict[str, Any]:
    """Return what is in a data set as plain numbers and texts, by name."""
    requests = [request for record in found.records for request in record.requests]
    repeated, against = _repeats(requests)
    return {
        "name": spec.name,
        "records": len(found.records),
        "left_out": {str(place): reason for place, reason in found.left_out.items()},
        "target": _target(spec, plugins),
        "stripped": found.stripped,
        "edits": len(requests),
        "probes": dict(Counter(probe.role for request in requests for probe in request.probes)),
        "true_targets": sum(request.target_true is not None for request in requests),
        "relations": len({request.relation or request.prompt for request in requests}),
        "generation_prompts": sum(len(request.generation_prompts) for request in requests),
        "repeated_edits": repeated,
        "contradictions": against,
        "case_ids": len({record.case_id for record in found.records}),
        "sha256": found.sha256,
        "digest": requests_digest(requests),
        "first_edit": {"prompt": requests[0].question, "target": requests[0].target_new},
    }


def dataset_table(spec: DatasetSpec, record: Mapping[str, Any]) -> TextTable:
    """Return a record of `dataset_record` as it is shown, with what is to be said of its numbers."""
    records, edits, against, ids = (record[name] for name in ("records", "edits", "contradictions", "case_ids"))
    first = record["first_edit"]
    unique = "unique" if ids == records else f"{records - ids:,} not unique: order by 'indices'"
    rows: list[list[Cell]] = [["records", f"{records:,}{_published(spec, records)}"]]
    if record["left_out"]:
        reason = next(iter(record["left_out"].values()))
        rows.append(["left out", f"{len(record['left_out']):,}; the first: {reason}"])
    rows.append(["target", record["target"]])
    if record["stripped"]:
        rows.append(["blanks", f"{record['stripped']:,} texts have blanks around them, which are stripped"])
    if edits > records:
        rows.append(["edits", f"{edits:,}; those of a record stay together in every order"])
    rows += [
        ["probes", ", ".join(f"{count:,} {role}" for role, count in record["probes"].items())],
        ["true targets", f"{record['true_targets']:,}"],
        ["relations", f"{record['relations']:,}"],
        ["generation", f"{record['generation_prompts']:,} prompts"],
        ["repeated edits", f"{record['repeated_edits']:,}"],
        ["contradictions", f"{against:,}{_advice(spec, against)}"],
        ["case ids", unique],
    ]
    if record["sha256"] is not None:
        rows.append(["sha256", record["sha256"]])
    rows += [["digest", record["digest"]], ["first edit", f"{first['prompt']!r} -> {first['target']!r}"]]
    return TextTable([Column("what"), Column("found", prose=True)], rows, spec.name)


def _target(spec: DatasetSpec, plugins: Plugins) -> str:
    """Return which field is edited in, and the other ones that the schema offers."""
    name = "counterfact" if spec.dataset == EMBEDDED else spec.dataset
    schema = find_schema(name, plugins, where=spec.source)
    if spec.target in schema.targets:
        return f"{schema.targets[str(spec.target)][0]}; without 'target': {schema.target}"
    others = "; ".join(f"'target: {name}' edits to {title}" for name, (title, _) in schema.targets.items())
    return schema.target + (f"; {others}" if others else "")


def _repeats(requests: Sequence[EditRequest]) -> tuple[int, int]:
    """Return how many edits repeat an earlier one, and how many give an earlier question another answer."""
    answers: dict[tuple[str, str], set[str]] = {}
    repeated = against = 0
    for request in requests:
        earlier = answers.setdefault((request.prompt, request.subject), set())
        repeated += request.target_new in earlier
        against += bool(earlier) and request.target_new not in earlier
        earlier.add(request.target_new)
    return repeated, against


def _published(spec: DatasetSpec, count: int) -> str:
    published = SCHEMAS[spec.dataset].published if spec.dataset in SCHEMAS else {}
    named = published.get(Path(spec.path).name) if spec.path is not None else None
    if named is not None:
        return ", as published" if named == count else f"; the published file of this name has {named:,}"
    known = [name for name, size in published.items() if size == count]
    return f", as many as {known[0]} has" if known else ""


def _advice(spec: DatasetSpec, against: int) -> str:
    if against == 0:
        return ""
    better = {"counterfact": "; MultiCounterFact has none", "mquake": "; MQuAKE-Remastered corrects them"}
    return f": the earlier edits stay asked, for an answer that was edited away{better.get(spec.dataset, '')}"
