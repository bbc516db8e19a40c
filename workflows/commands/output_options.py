"""Options of what a command prints, and where."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from workflows.results.formats.output_format import Format

__all__ = [
    "By",
    "EndJsonOption",
    "FormatOption",
    "JsonOption",
    "OutOption",
    "QuietOption",
    "TableFormatOption",
    "WideOption",
]

_HELP = "Default: by the name of --out, else to be read"
FormatOption = Annotated[Format | None, typer.Option("--format", metavar="md|csv|parquet|json", help=_HELP)]
TableFormatOption = Annotated[Format | None, typer.Option("--format", help=_HELP)]
OutOption = Annotated[Path | None, typer.Option(help="File to write; default: print")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs")]
# Of commands that show what they do while they do it.
EndJsonOption = Annotated[
    bool, typer.Option("--json", help="End with one JSON object; all else goes to standard error")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only, to standard error")]
WideOption = Annotated[bool, typer.Option("--wide", help="All columns, however wide the terminal is")]


class By(Enum):
    """What the rows of a table are."""

    METHOD = "method"
    EDITS = "edits"
