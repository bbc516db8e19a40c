"""A layout's table in every form: for a terminal, Markdown, one flat Arrow table, JSON, LaTeX and HTML."""

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.formats.html_table import html_table
from workflows.results.formats.latex_table import latex_table
from workflows.results.formats.output import Answer
from workflows.results.layouts.made_table import MadeTable
from workflows.terminal.escape import markdown_text, one_line
from workflows.terminal.markdown import markdown_table
from workflows.terminal.table import Cell, Column, Styled, TextTable

__all__ = ["layout_answer"]

_STYLES = {1: "bold", 2: "underline"}
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("group", "row", "kind", "method", "column", "metric", "protocol", "task")]
    + [("mean", pa.float64()), ("spread", pa.float64()), ("spread_of", pa.string())]
    + [(name, pa.int64()) for name in ("seeds", "planned", "collapsed", "failed", "records")]
    + [(name, pa.float64()) for name in ("unedited", "difference", "difference_low", "difference_high")]
    + [("place", pa.int64()), ("word", pa.string()), ("notes", pa.string())]
)


def layout_answer(made: MadeTable) -> Answer:
    """Return a table in every form a command gives it in."""
    notes = [*made.remarks, *(f"{letter}: {one_line(text)}" for letter, text in made.notes.items())]
    flat = _flat(made)
    return Answer(
        flat,
        [_text_table(made)],
        lambda: _markdown(made, notes),
        {"title": made.layout.title, "cells": flat.to_pylist(), "notes": made.notes, "spread": made.spread},
        notes,
        latex=lambda: latex_table(made),
        html=lambda: html_table(made),
    )


def _text_table(made: MadeTable) -> TextTable:
    one_group = len(made.groups) == 1
    columns = [Column("method")]
    for group in made.groups:
        columns += [
            Column(column.title, place, right=True, group="" if one_group else group)
            for place, column in enumerate(made.columns)
        ]
    rows: list[list[Cell]] = []
    for row in made.rows:
        cells: list[Cell] = [row.name]
        for part in row.cells:
            for column, cell in zip(made.columns, part, strict=True):
                text = " ".join([made.cell_text(column, cell), *cell.marks])
                cells.append(Styled(text, _STYLES[cell.rank]) if cell.rank in _STYLES else text)
        rows.append(cells)
    title = "; ".join(part for part in (made.layout.title, made.groups[0] if one_group else "") if part)
    return TextTable(columns, rows, title)


def _markdown(made: MadeTable, notes: list[str]) -> str:
    one_group = len(made.groups) == 1
    head = ["method"]
    for group in made.groups:
        head += [column.title if one_group else f"{group}: {column.title}" for column in made.columns]
    lines = []
    for row in made.rows:
        line = [markdown_text(row.name)]
        for part in row.cells:
            for column, cell in zip(made.columns, part, strict=True):
                text = markdown_text(made.cell_text(column, cell))
                text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.rank or 0, text)
                line.append(" ".join([text, *(f"<sup>{mark}</sup>" for mark in cell.marks)]))
        lines.append(line)
    title = "; ".join(markdown_text(part) for part in (made.layout.title, made.groups[0] if one_group else "") if part)
    parts = [f"{title}\n"] if title else []
    parts.append(markdown_table([markdown_text(name) for name in head], lines, markup=True))
    return "\n".join([*parts, "", *(f"- {markdown_text(note)}" for note in notes)]) + "\n"


def _flat(made: MadeTable) -> pa.Table:
    records = []
    for row in made.rows:
        for group, part in zip(made.groups, row.cells, strict=True):
            for column, cell in zip(made.columns, part, strict=True):
                found = cell.difference
                records.append(
                    {
                        "group": group,
                        "row": row.name,
                        "kind": row.kind,
                        "method": row.method,
                        "column": column.title,
                        "metric": column.metric,
                        "protocol": column.protocol,
                        "task": column.task,
                        "mean": cell.mean,
                        "spread": cell.spread,
                        "spread_of": made.spread if cell.spread is not None else None,
                        "seeds": cell.seeds,
                        "planned": cell.planned,
                        "collapsed": cell.collapsed,
                        "failed": cell.failed,
                        "records": cell.records,
                        "unedited": cell.unedited,
                        "difference": None if found is None else found.value,
                        "difference_low": None if found is None else found.low,
                        "difference_high": None if found is None else found.high,
                        "place": cell.rank,
                        "word": cell.word,
                        "notes": "; ".join(made.notes[mark] for mark in cell.marks) or None,
                    }
                )
    return table_of_records(records, _SCHEMA)
