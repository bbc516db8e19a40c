"""Seconds by stage, in every form a command gives it in."""

from typing import Any

import pyarrow as pa

from workflows.results.formats.output import Answer
from workflows.terminal.markdown import markdown_table
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["timings_answer"]

_NONE = "No timings are stored below this root."
_COLUMNS = (
    Column("model", shared=True),
    Column("method"),
    Column("work"),
    Column("stage"),
    Column("seconds", right=True),
    Column("share", 1, right=True),
    Column("s/edit", 2, right=True),
    Column("pieces", 4, right=True),
    Column("device", 3, shared=True),
    Column("versions", 5, shared=True, prose=True),
)


def timings_answer(totals: pa.Table) -> Answer:
    """Return the seconds by stage in every form; stages that ran beside others are marked and have no share."""
    records = totals.to_pylist()
    text = TextTable(_COLUMNS, [_cells(record) for record in records], "seconds by stage, over all trajectories")
    return Answer(
        totals,
        [text] if records else [],
        lambda: _markdown(text) if records else f"{_NONE}\n",
        {"timings": records},
        [] if records else [_NONE],
    )


def _markdown(text: TextTable) -> str:
    return markdown_table([column.name for column in _COLUMNS], text.texts(short_ids=False)) + "\n"


def _cells(record: dict[str, Any]) -> list[Cell]:
    share, per_edit = record["share"], record["per_edit"]
    return [
        record["model"],
        record["method"],
        record["work"],
        f"{record['stage']} (beside)" if record["beside"] else record["stage"],
        f"{record['seconds']:.3f}",
        None if share is None else f"{100 * share:.1f} %",
        None if per_edit is None else f"{per_edit:.4f}",
        record["pieces"],
        record["device"],
        record["versions"],
    ]
