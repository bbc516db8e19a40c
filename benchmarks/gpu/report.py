"""The results as Markdown: one table per part."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu.verdicts import verdicts

__all__ = ["TITLES", "markdown"]

TITLES = {
    "B0": "Ceilings of the card",
    "B1": "Every method, two batches",
    "B2": "Targets of a batch",
    "B3": "A batch by stages",
    "B4": "The checkpoint after that batch",
    "B5": "Scoring",
    "B6": "A plain implementation of the published way",
    "B7": "Now beside an earlier results file",
}
_WORDS = {True: "yes", False: "NO", None: "not judged"}


def markdown(results: Mapping[str, Any]) -> str:
    """Return one results file as Markdown: the card and the versions, a table per part, and the verdicts."""
    head = f"Measured on {results['device']}, torch {results['torch']}, transformers {results['transformers']}."
    parts = [f"### {name}: {TITLES[name]}\n\n{_table(results[name])}" for name in TITLES if name in results]
    judged = verdicts(results)
    if judged:
        parts.append(f"### Verdicts\n\n{_table([{**line, 'met': _WORDS[line['met']]} for line in judged])}")
    return "\n\n".join([head, *parts]) + "\n"


def _table(part: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(part, Mapping):
        return _rows(["what", "measured"], [[name, _cell(value)] for name, value in part.items()])
    flat = [_flat(record) for record in part]
    names = list(dict.fromkeys(name for record in flat for name in record))
    return _rows(names, [[_cell(record.get(name)) for name in names] for record in flat])


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= (
            {f"{name}: {part}": inner for part, inner in value.items()} if isinstance(value, Mapping) else {name: value}
        )
    return found


def _rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.3g}"
