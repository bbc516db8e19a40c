"""Output of a command's table: to a terminal, a pipe or a file, in the chosen format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import output_errors
from workflows.results.formats.arrow_formats import arrow_csv, arrow_parquet
from workflows.results.formats.output_format import Format
from workflows.terminal.console import json_text, say
from workflows.terminal.table import TextTable

__all__ = ["Answer", "write_answer"]

_ROWS_SHOWN = 80


@dataclass(frozen=True)
class Answer:
    """The answer of a command, in every available form.

    `table` is the content of CSV and Parquet, `shown` of a terminal, `notes` are lines below it, `record` is the JSON.
    LaTeX and HTML are forms of a paper's table only.
    """

    table: pa.Table
    shown: Sequence[TextTable]
    markdown: Callable[[], str]
    record: Mapping[str, object]
    notes: Sequence[str] = ()
    latex: Callable[[], str] | None = None
    html: Callable[[], str] | None = None


def write_answer(
    answer: Answer, console: Console, *, form: Format | None = None, out: Path | None = None, wide: bool = False
) -> None:
    """Write an answer to a file, or print it: without a format, a table on a terminal and Markdown elsewhere.

    Raises InputError if the file cannot be written.
    """
    if out is None and form is None and console.is_terminal:
        _show(answer, console, wide=wide)
        return
    data = _data(answer, form or Format.MARKDOWN)
    if out is None:
        console.out(data.decode(), end="", highlight=False)
        return
    with output_errors(out):
        out.write_bytes(data)


def _data(answer: Answer, form: Format) -> bytes:
    match form:
        case Format.PARQUET:
            return arrow_parquet(answer.table)
        case Format.CSV:
            return arrow_csv(answer.table).encode()
        case Format.JSON:
            return json_text(answer.record).encode()
        case Format.MARKDOWN:
            return answer.markdown().encode()
        case Format.LATEX | Format.HTML:
            make = answer.latex if form is Format.LATEX else answer.html
            if make is None:
                raise InputError(
                    "this table has no such form",
                    where=f"--format {form.value}",
                    remedy="give md, csv, parquet or json",
                )
            return make().encode()


def _show(answer: Answer, console: Console, *, wide: bool) -> None:
    for place, table in enumerate(answer.shown):
        if place:
            console.print()
        console.print(replace(table, rows=table.rows[:_ROWS_SHOWN], wide=wide), soft_wrap=wide)
        more = len(table.rows) - _ROWS_SHOWN
        if more > 0:
            say(console, f"{more} more rows: --format csv, --out FILE or a pipe gives all", style="dim")
    for note in answer.notes:
        say(console, note)
