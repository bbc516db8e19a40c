"""The option by which `sphere run`, `plan` and `submit` let task files name Python."""

from typing import Annotated

import typer

__all__ = ["TrustTaskCodeOption"]

TrustTaskCodeOption = Annotated[
    bool, typer.Option("--trust-task-code", help="Run Python that task files of your own name with !function")
]
