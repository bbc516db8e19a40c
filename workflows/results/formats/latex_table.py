r"""A layout's table as a LaTeX fragment: booktabs rules, numbers set by siunitx, ready for `\input`."""

from workflows.results.layouts.layout import ColumnAsk
from workflows.results.layouts.made_table import MadeCell, MadeTable
from workflows.terminal.escape import one_line

__all__ = ["latex_table", "latex_text"]

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"\ensuremath{\pm}",
    "–": "--",
    "—": "---",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    # After a line's end these would be read as its options.
    **{character: f"{{{character}}}" for character in "[]*"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_HEAD = r"""% Needs \usepackage[T1]{fontenc}, \usepackage{booktabs} and \usepackage{siunitx} (version 3)."""
# A number takes the weight of the text around it, as siunitx does only if asked to.
_SETUP = r"\begingroup\sisetup{text-series-to-math=true, propagate-math-font=true, reset-text-series=false}"


def latex_text(text: str) -> str:
    """Return a text as LaTeX shows it, whatever it holds."""
    # Two hyphens would be set as one dash.
    parts = ("".join(_ESCAPES.get(character, character) for character in part) for part in one_line(text).split("--"))
    return "-{}-".join(parts)


def latex_table(made: MadeTable) -> str:
    """Return the fragment: a tabular with a rule below each group's name, and the notes below the table."""
    width = len(made.columns)
    columns = "l" + "r" * width * len(made.groups)
    lines = [_HEAD, _SETUP, r"\begin{tabular}{" + columns + "}", r"\toprule"]
    if len(made.groups) > 1:
        names = [rf"\multicolumn{{{width}}}{{c}}{{{latex_text(name)}}}" for name in made.groups]
        lines.append(" & " + " & ".join(names) + r" \\")
        starts = [2 + place * width for place in range(len(made.groups))]
        lines.append(" ".join(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start in starts))
    heads = [latex_text(column.title) for _ in made.groups for column in made.columns]
    lines += [" & ".join(["Method", *heads]) + r" \\", r"\midrule"]
    for place, row in enumerate(made.rows):
        cells = [
            _cell(made, column, cell) for part in row.cells for column, cell in zip(made.columns, part, strict=True)
        ]
        lines.append(" & ".join([latex_text(row.name), *cells]) + r" \\")
        below = [_difference(made, c, cell) for part in row.cells for c, cell in zip(made.columns, part, strict=True)]
        if any(below):
            lines[-1] += "[1pt]"
            lines.append(" & ".join(["", *below]) + r" \\[1pt]")
        if row.kind == "unedited" and place + 1 < len(made.rows):
            lines.append(r"\midrule")
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [*map(latex_text, made.remarks), *(f"${key}$: {latex_text(text)}" for key, text in made.notes.items())]
    return (
        "\n".join([*lines, r"\par\smallskip{\footnotesize\noindent " + "; ".join(notes) + r".\par}", r"\endgroup"])
        + "\n"
    )


def _cell(made: MadeTable, column: ColumnAsk, cell: MadeCell) -> str:
    if cell.mean is None:
        text = latex_text(cell.word) if cell.word else "--"
    else:
        text = rf"\num{{{made.number(column, cell.mean)}}}"
        if cell.spread is not None:
            # Not as siunitx's uncertainty, which drops one that is printed as zero.
            text += rf" $\pm$ \num{{{made.number(column, cell.spread)}}}"
        text = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.rank or 0, text)
    return text + (rf"\textsuperscript{{{','.join(cell.marks)}}}" if cell.marks else "")


def _difference(made: MadeTable, column: ColumnAsk, cell: MadeCell) -> str:
    found = cell.difference
    if found is None:
        return ""
    signed = [
        rf"\num[print-implicit-plus=true]{{{made.number(column, value)}}}"
        for value in (found.value, found.low, found.high)
        if value is not None
    ]
    interval = f" [{', '.join(signed[1:])}]" if len(signed) > 1 else ""
    return rf"({signed[0]}{interval})" + r"\textsuperscript{*}" * found.star
