"""What a data set holds, from its records alone: counts, digests, probes by role, edits that repeat or contradict."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sphere_core.datasets.records import Record
from sphere_core.datasets.schemas import SCHEMAS
from sphere_core.datasets.sources import Dataset, DatasetSpec
from sphere_core.requests import EditRequest, requests_digest

__all__ = ["dataset_facts"]


def dataset_facts(spec: DatasetSpec, found: Dataset) -> list[tuple[str, str]]:
    """Return what is in a data set as (name, text) pairs, in the order in which they are shown."""
    requests = [request for record in found.records for request in record.requests]
    roles = Counter(probe.role for request in requests for probe in request.probes)
    repeated, against = _repeats(requests)
    rows = [("records", f"{len(found.records):,}{_published(spec, len(found.records))}")]
    if len(requests) > len(found.records):
        rows.append(("edits", f"{len(requests):,}; those of a record stay together in every order"))
    rows += [
        ("probes", ", ".join(f"{count:,} {role}" for role, count in roles.items())),
        ("true targets", f"{sum(request.target_true is not None for request in requests):,}"),
        ("relations", f"{len({request.relation or request.prompt for request in requests}):,}"),
        ("generation prompts", f"{sum(len(request.generation_prompts) for request in requests):,}"),
        ("repeated edits", f"{repeated:,}"),
        ("contradictions", f"{against:,}{_advice(spec, against)}"),
        ("case ids", _case_ids(found.records)),
    ]
    if found.sha256 is not None:
        rows.append(("sha256", found.sha256))
    return [*rows, ("digest of requests", requests_digest(requests))]


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


def _case_ids(records: Sequence[Record]) -> str:
    distinct = len({record.case_id for record in records})
    return "unique" if distinct == len(records) else f"{len(records) - distinct:,} not unique: order by 'indices'"
