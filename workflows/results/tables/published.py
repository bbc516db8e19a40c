"""Numbers of papers next to the numbers of a sweep: both are printed, whichever way they differ."""

from dataclasses import dataclass

from workflows.results.sql.connect import connect_roots, query
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.table import Cell

__all__ = ["Comparison", "published_table"]


@dataclass(frozen=True)
class Comparison:
    """One published number and what was measured for it, if anything was."""

    source: str
    model: str
    dataset: str
    method: str
    edits: int
    metric: str
    protocol: str
    published: float
    measured: Cell | None
    tolerance: float | None = None


def published_table(root: SweepRoot) -> list[Comparison]:
    """Return every published number that a sweep's file names, with the mean over seeds at that edit count."""
    found = _measured(root)
    compared = []
    for entry in root.plan.published_scores:
        for method, values in entry.values.items():
            allowed = entry.tolerance or (None,) * len(values)
            for metric, value, tolerance in zip(entry.metrics, values, allowed, strict=True):
                if value is None:
                    continue
                place = (method, entry.model, entry.dataset, entry.edits, metric, entry.protocol)
                compared.append(
                    Comparison(
                        entry.source,
                        entry.model,
                        entry.dataset,
                        method,
                        entry.edits,
                        metric,
                        entry.protocol,
                        value,
                        found.get(place),
                        tolerance,
                    )
                )
    return compared


def _measured(root: SweepRoot) -> dict[tuple[str, str, str, int, str, str], Cell]:
    with connect_roots([root], views=("rows",)) as connection:
        records = connection.sql(query("published")).to_arrow_table().to_pylist()
    keys = ("method", "model", "dataset", "edits", "metric", "protocol")
    return {tuple(record[key] for key in keys): Cell.of(record) for record in records}
