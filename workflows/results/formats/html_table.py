"""A layout's table as an HTML fragment, every text escaped."""

import html

from workflows.results.layouts.layout import ColumnAsk
from workflows.results.layouts.made_table import MadeCell, MadeTable
from workflows.terminal.escape import one_line

__all__ = ["html_table"]


def html_table(made: MadeTable) -> str:
    """Return a `<table>` with a caption, groups above their columns, and the notes as its last row."""
    width = len(made.columns)
    lines = ["<table>"]
    if made.layout.title:
        lines.append(f"<caption>{_text(made.layout.title)}</caption>")
    lines.append("<thead>")
    groups = "".join(f'<th colspan="{width}" scope="colgroup">{_text(name)}</th>' for name in made.groups)
    lines.append(f"<tr><th></th>{groups}</tr>")
    heads = "".join(f'<th scope="col">{_text(column.title)}</th>' for _ in made.groups for column in made.columns)
    lines += [f'<tr><th scope="col">Method</th>{heads}</tr>', "</thead>", "<tbody>"]
    for row in made.rows:
        cells = "".join(
            f"<td>{_cell(made, column, cell)}</td>"
            for part in row.cells
            for column, cell in zip(made.columns, part, strict=True)
        )
        lines.append(f'<tr class="{row.kind}"><th scope="row">{_text(row.name)}</th>{cells}</tr>')
    notes = [*made.remarks, *(f"{letter}: {text}" for letter, text in made.notes.items())]
    below = "<br>".join(map(_text, notes))
    lines += ["</tbody>", f'<tfoot><tr><td colspan="{1 + width * len(made.groups)}">{below}</td></tr></tfoot>']
    return "\n".join([*lines, "</table>"]) + "\n"


def _cell(made: MadeTable, column: ColumnAsk, cell: MadeCell) -> str:
    text = _text(made.cell_text(column, cell))
    text = {1: f"<strong>{text}</strong>", 2: f"<u>{text}</u>"}.get(cell.rank or 0, text)
    return text + "".join(f"<sup>{_text(mark)}</sup>" for mark in cell.marks)


def _text(text: str) -> str:
    return html.escape(one_line(text))
