"""An Arrow table in every form a command gives it in."""

from collections.abc import Mapping

import pyarrow as pa

from workflows.results.formats.arrow_formats import arrow_markdown, arrow_text_table
from workflows.results.formats.output import Answer
from workflows.terminal.table import Column

__all__ = ["arrow_answer"]


def arrow_answer(table: pa.Table, columns: Mapping[str, Column], *, title: str) -> Answer:
    """Return a table with what is special about its columns on a terminal; JSON holds `rows`."""
    shown = arrow_text_table(table, columns, title=title)
    return Answer(table, [shown], lambda: arrow_markdown(table), {"rows": table.to_pylist()})
