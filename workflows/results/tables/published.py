"""Numbers of papers next to the numbers of a sweep: both are printed, whichever way they differ."""

from dataclasses import dataclass

from workflows.results.sql.connect import connect_roots, query
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.table import Cell

__all__ = ["Comparison", "published_table"]


@dataclass(frozen=True)
class Comparison:
    """One published number and what was measured for it, if anything was.

    `stream` is the one of the measured number where several streams fit the paper's data set and edit count.
    """

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
    stream: str | None = None

    @property
    def place(self) -> str:
        """The data set, or the stream where there are several."""
        return self.stream or self.dataset


def published_table(root: SweepRoot) -> list[Comparison]:
    """Return every published number that a sweep's file names, with the mean over seeds at that edit count.

    Where several streams of the sweep fit a number, it is returned once for each of them.
    """
    found = _measured(root)
    compared = []
    for entry in root.plan.published_scores:
        for method, values in entry.values.items():
            allowed = entry.tolerance or (None,) * len(values)
            for metric, value, tolerance in zip(entry.metrics, values, allowed, strict=True):
                if value is None:
                    continue
                place = (method, entry.model, entry.dataset, entry.edits, metric, entry.protocol)
                named = (entry.source, entry.model, entry.dataset, method, entry.edits, metric, entry.protocol, value)
                measured = found.get(place, [])
                if len(measured) > 1:
                    compared += [Comparison(*named, cell, tolerance, stream) for stream, cell in measured]
                else:
                    compared.append(Comparison(*named, measured[0][1] if measured else None, tolerance))
    return compared


def _measured(root: SweepRoot) -> dict[tuple[str, str, str, int, str, str], list[tuple[str, Cell]]]:
    """Return what was measured under the names that papers use, in each stream."""
    with connect_roots([root], views=("rows",)) as connection:
        records = connection.sql(query("published")).to_arrow_table().to_pylist()
    found: dict[tuple[str, str, str, int, str, str], list[tuple[str, Cell]]] = {}
    for one in records:
        key = (one["method"], one["model"], one["dataset"], one["edits"], one["metric"], one["protocol"])
        found.setdefault(key, []).append((one["stream"], Cell.of(one)))
    return found
