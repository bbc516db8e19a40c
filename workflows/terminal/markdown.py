"""The one writer of Markdown tables."""

import re
from collections.abc import Iterable, Sequence

from workflows.terminal.escape import markdown_text, one_line

__all__ = ["code_span", "markdown_table"]

# A code span, between equal runs of backticks that no backslash escapes; or a pipe with the backslashes before it.
_CODE_OR_PIPE = re.compile(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)|(?P<before>\\*)\|")


def code_span(text: str) -> str:
    """Return a text as code in Markdown, whatever backticks it holds."""
    shown = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]], *, markup: bool = False) -> str:
    """Return an aligned Markdown table: a head, a rule and a line for each row, without a line break at the end.

    Cells are texts, and show as they are; with `markup` they are Markdown already, of which only a pipe without a
    backslash, or inside code, and a line break would end the cell.
    """
    escape = _cell_end if markup else markdown_text
    escaped = [[escape(cell) for cell in line] for line in [head, *lines]]
    widths = [max(len(line[index]) for line in escaped) for index in range(len(head))]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in escaped
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([rows[0], rule, *rows[1:]])


def _cell_end(text: str) -> str:
    return _CODE_OR_PIPE.sub(lambda found: _escaped(found[0], found["before"]), one_line(text))


def _escaped(found: str, before: str | None) -> str:
    """Return code with every pipe escaped, or a pipe that follows `before`: an odd backslash escapes it already."""
    if before is None:
        return found.replace("|", "\\|")
    return found if len(before) % 2 else f"{before}\\|"
