"""`sphere data`: reads a data set as a sweep would, and says what is in it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.table import Table

from sphere_core.datasets.records import Record
from sphere_core.datasets.schemas import SCHEMAS
from sphere_core.datasets.sources import Dataset, DatasetSpec, read_dataset
from sphere_core.requests import EditRequest, requests_digest
from workflows.commands.console import output_console
from workflows.commands.dataset_options import (
    ConfigOption,
    DatasetArgument,
    FileOption,
    HubOption,
    PathOption,
    RevisionOption,
    SplitOption,
    named_dataset,
)

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere data multi_counterfact --path multi_counterfact.json
  sphere data zsre --path zsre_mend_eval.json
  sphere data mquake --hub henryzhongsc/MQuAKE-Remastered --revision main --split CF3k
  sphere data facts --path my-facts.csv

Every record is checked; the first fault is told with file, record and field. Put the sha256 into the sweep file to
pin it: `streams: [{dataset: facts, path: my-facts.csv, sha256: ..., edits: 100}]`.
"""


@app.command(epilog=_EPILOG)
def data(
    dataset: DatasetArgument,
    path: PathOption = None,
    hub: HubOption = None,
    revision: RevisionOption = None,
    config: ConfigOption = None,
    split: SplitOption = None,
    file: FileOption = None,
) -> None:
    """Check every record of a data set and show what is in it: counts, hash, probes by role, edits that repeat or
    contradict each other."""
    spec = named_dataset(dataset, path=path, hub=hub, revision=revision, config=config, split=split, file=file)
    found = read_dataset(spec)
    table = Table(title=spec.name, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _facts(spec, found):
        table.add_row(name, value)
    console = output_console()
    console.print(table)
    first = found.records[0].requests[0]
    console.print(f"first: {first.question!r} -> {first.target_new!r}", highlight=False, markup=False)


def _facts(spec: DatasetSpec, found: Dataset) -> list[tuple[str, str]]:
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
    better = {"counterfact": "; MultiCounterFact has none", "mquake": "; MQuAKE-Remastered mends them"}
    return f": the earlier edits stay asked, for an answer that was edited away{better.get(spec.dataset, '')}"


def _case_ids(records: Sequence[Record]) -> str:
    distinct = len({record.case_id for record in records})
    return "unique" if distinct == len(records) else f"{len(records) - distinct:,} not unique: order by 'indices'"
