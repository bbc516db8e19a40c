"""Options of the commands that run tasks: on a Ray cluster, on a Ray of this machine, or in this process."""

from typing import Annotated

import typer

__all__ = ["AddressOption", "LocalOption", "NumCpusOption"]

AddressOption = Annotated[str | None, typer.Option(help="Ray cluster to attach to; default: start one here")]
LocalOption = Annotated[bool, typer.Option("--local", help="Run in this process, one replica, without Ray")]
NumCpusOption = Annotated[int | None, typer.Option(help="CPUs for a Ray started here; default: all")]
