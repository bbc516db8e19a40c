"""The option for plugin files, of every command that takes rows from outside the release."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["PluginOption"]

PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="PATH", help="Python file with rows of your own; its code is run; repeatable"),
]
