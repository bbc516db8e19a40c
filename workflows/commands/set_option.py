"""The option of commands that take a sweep file: `--set PATH=VALUE`."""

from typing import Annotated

import typer

__all__ = ["HyperparameterOption", "SetOption"]

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="A value in place of the file's, as YAML: seeds=[0,1], methods[*].hyperparameters.strength=0.5; "
        "paths are relative to the file; repeatable",
    ),
]
HyperparameterOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter, as YAML: strength=0.5; repeatable"),
]
