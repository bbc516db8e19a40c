"""`sphere doctor`: whether this machine, a model and a method go together, before anything is loaded."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from workflows.commands.console import output_console

if TYPE_CHECKING:
    from workflows.preflight.machine import Finding

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere doctor                                               this machine
  sphere doctor factworld --preset factworld                  and the embedded model
  sphere doctor meta-llama/Meta-Llama-3-8B-Instruct --preset llama3-8b --method alphaedit+sphere --edits 15000
"""
_STYLES = {"ok": "green", "note": "yellow", "missing": "bold red"}


@app.command(epilog=_EPILOG)
def doctor(
    model: Annotated[str | None, typer.Argument(help="Folder, hub id, or `factworld`")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of a hub id")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset: predict memory and disk of a method")] = None,
    method: Annotated[str, typer.Option(help="Method to predict")] = "alphaedit+sphere",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "bfloat16",
    batch: Annotated[int, typer.Option(min=1, help="Edits in a batch")] = 100,
    edits: Annotated[int, typer.Option(min=1, help="Edits of the whole stream")] = 1000,
) -> None:
    """Look at versions, memory, tokens and a model's files; exit code 1 with the remedy where something is missing.

    Loads no weights and fetches nothing.
    """
    from workflows.preflight.machine import machine_findings
    from workflows.preflight.model import examine, stage_findings

    findings = machine_findings(Path.cwd())
    if model is not None:
        examined = examine(model, revision=revision)
        findings += examined.findings
        if preset is not None:
            findings += stage_findings(
                examined, method=method, preset_name=preset, dtype=dtype, batch=batch, edits=edits
            )
    output_console().print(_table(findings))
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def _table(findings: "list[Finding]") -> Table:
    table = Table.grid(padding=(0, 2))
    for part, members in groupby(findings, key=lambda finding: finding.part):
        table.add_row(Text(part, style="bold"))
        for finding in members:
            found = Text(finding.found)
            if finding.remedy is not None:
                found.append(f"\n{finding.remedy}", style="italic")
            table.add_row("  " + finding.what, Text(finding.state, style=_STYLES[finding.state]), found)
    return table
