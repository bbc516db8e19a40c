"""Options of every command that gives a table."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from workflows.results.formats.output_format import Format

__all__ = ["By", "FormatOption", "JsonOption", "OutOption", "TableFormatOption", "WideOption"]

_HELP = "Default: by the name of --out, else to be read"
FormatOption = Annotated[Format | None, typer.Option("--format", metavar="md|csv|parquet|json", help=_HELP)]
TableFormatOption = Annotated[Format | None, typer.Option("--format", help=_HELP)]
OutOption = Annotated[Path | None, typer.Option(help="File to write; default: print")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs")]
WideOption = Annotated[bool, typer.Option("--wide", help="All columns, however wide the terminal is")]


class By(Enum):
    """What the rows of a table are."""

    METHOD = "method"
    EDITS = "edits"
