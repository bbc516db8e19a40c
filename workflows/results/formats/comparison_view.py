"""The comparison of two sweeps in every form."""

from workflows.results.formats.arrow_formats import arrow_markdown, arrow_text_table
from workflows.results.formats.output import Answer
from workflows.results.tables.comparison import SweepComparison
from workflows.terminal.table import Column

__all__ = ["comparison_answer"]

_CELLS = {
    **{name: Column(name, shared=True) for name in ("model", "dataset", "stream_order", "protocol", "task")},
    "first_status": Column("first_status", 3, shared=True),
    "second_status": Column("second_status", 3, shared=True),
    "same_trajectory": Column("same_trajectory", 2, shared=True),
}
_DIFFERENCES = {"trajectory": Column("trajectory", prose=True), "kind": Column("kind", shared=True)}


def comparison_answer(found: SweepComparison, *, flat: str) -> Answer:
    """Return a comparison in every form a command gives it in; `flat` is the table of CSV and Parquet."""
    cells, differences = found.cells, found.differences
    lines = [
        f"{found.equal} cells equal, {cells.num_rows} with other numbers, {found.only_first} only in the first, "
        f"{found.only_second} only in the second"
    ]
    if not differences.num_rows:
        lines.append("nothing differs in specifications, evaluations, code and devices, as far as they are recorded")
    tables = [("other numbers", cells, _CELLS), ("what differed", differences, _DIFFERENCES)]
    shown = [arrow_text_table(table, columns, title=title) for title, table, columns in tables if table.num_rows]

    def markdown() -> str:
        parts = [f"{title}\n\n{arrow_markdown(table)}" for title, table, _ in tables if table.num_rows]
        return "\n".join([*lines, "", *parts]).rstrip() + "\n"

    record = {"equal": found.equal, "only_first": found.only_first, "only_second": found.only_second}
    everything = record | {"cells": cells.to_pylist(), "differences": differences.to_pylist()}
    return Answer(cells if flat == "cells" else differences, shown, markdown, everything, lines)
