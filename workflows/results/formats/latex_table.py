r"""A layout's table as a LaTeX fragment: booktabs rules, numbers set by siunitx, ready for `\input`."""

import re
import unicodedata

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
    "\u2212": r"\ensuremath{-}",
}
# Signs that fonts of T1 lack, as mathematics.
_SIGNS = {
    **{"×": "times", "·": "cdot", "→": "rightarrow", "←": "leftarrow", "↑": "uparrow", "↓": "downarrow", "≤": "leq"},
    **{"≥": "geq", "≠": "neq", "≈": "approx", "∞": "infty", "∈": "in", "∘": "circ", "∆": "Delta", "∑": "sum"},
    "\u00b5": "mu",
}
_GREEK = re.compile("GREEK (SMALL|CAPITAL) LETTER ([A-Z]+( SIGMA)?)")
_GREEK_NAMES = {"LAMDA": "lambda", "EPSILON": "varepsilon", "FINAL SIGMA": "varsigma"}
_CAPITALS = ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
# Beyond Latin letters and the punctuation of every installation: dashes, quotation marks, per mille, euro, trade mark.
_LAST_OF_T1, _PUNCTUATION, _OTHERS = 0x17F, range(0x2010, 0x2027), (0x2030, 0x20AC, 0x2122)
_HEAD = r"""% Needs \usepackage[T1]{fontenc}, \usepackage{booktabs} and \usepackage{siunitx} (version 3)."""
# A number takes the weight of the text around it, as siunitx does only if asked to.
_SETUP = r"\begingroup\sisetup{text-series-to-math=true, propagate-math-font=true, reset-text-series=false}"


def latex_text(text: str) -> str:
    """Return a text as LaTeX shows it, whatever it holds."""
    # Two hyphens would be set as one dash.
    return "-{}-".join("".join(map(_character, part)) for part in one_line(text).split("--"))


def _character(character: str) -> str:
    if character in _SIGNS:
        return rf"\ensuremath{{\{_SIGNS[character]}}}"
    greek = _GREEK.fullmatch(unicodedata.name(character, ""))
    if greek is None:
        return _ESCAPES.get(character, character)
    name = _GREEK_NAMES.get(greek[2], greek[2].lower())
    name = name if greek[1] == "SMALL" else name.removeprefix("var").capitalize()
    has_command = name in _CAPITALS or (greek[1] == "SMALL" and name != "omicron")
    return rf"\ensuremath{{\{name}}}" if has_command else character


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
        found = [(c, cell) for part in row.cells for c, cell in zip(made.columns, part, strict=True)]
        below = [[part(made, column, cell) for column, cell in found] for part in (_difference, _interval)]
        for texts in below:
            if any(texts):
                lines.append(" & ".join(["", *texts]) + r" \\")
        if any(below[0]):
            lines[-1] += "[2pt]"
        if row.kind == "unedited" and place + 1 < len(made.rows):
            lines.append(r"\midrule")
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [*map(latex_text, made.remarks), *(f"${key}$: {latex_text(text)}" for key, text in made.notes.items())]
    foreign = sorted({one for line in [*lines, *notes] for one in line if _is_foreign(one)})
    if foreign:
        lines.insert(1, f"% Only LuaLaTeX and XeLaTeX, with a font that has them, can set: {' '.join(foreign)}")
    return (
        "\n".join([*lines, r"\par\smallskip{\footnotesize\noindent " + "; ".join(notes) + r".\par}", r"\endgroup"])
        + "\n"
    )


def _is_foreign(character: str) -> bool:
    place = ord(character)
    return place > _LAST_OF_T1 and place not in _PUNCTUATION and place not in _OTHERS


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
    return _small(f"({_signed(made, column, found.value)})") + r"\textsuperscript{*}" * found.star


def _interval(made: MadeTable, column: ColumnAsk, cell: MadeCell) -> str:
    """Return the interval of a difference, on a line of its own: behind the difference it would double the width."""
    found = cell.difference
    if found is None or found.low is None or found.high is None:
        return ""
    return _small(f"{{[}}{_signed(made, column, found.low)}, {_signed(made, column, found.high)}{{]}}")


def _small(text: str) -> str:
    return rf"{{\scriptsize {text}}}"


def _signed(made: MadeTable, column: ColumnAsk, value: float) -> str:
    return rf"\num[print-implicit-plus=true]{{{made.number(column, value)}}}"
