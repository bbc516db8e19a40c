"""`sphere doctor`: check this machine, a model and a method before anything is loaded."""

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sphere_core.costs.accelerators import accelerator, accelerator_names
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import output_errors
from sphere_core.plugins import Plugins
from workflows.commands.output_options import JsonOption
from workflows.commands.plugin_option import PluginOption
from workflows.terminal.console import output_console, print_json
from workflows.terminal.table import Cell, Column, Styled, TextTable

if TYPE_CHECKING:
    from workflows.preflight.machine import Finding

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere doctor                               this machine
  sphere doctor factworld --preset factworld  and the embedded model
  sphere doctor --measure --out rates.json    its rates, for plan --price
  sphere doctor meta-llama/Meta-Llama-3-8B-Instruct --preset llama3-8b \\
      --method alphaedit+sphere --edits 15000 --accelerator h100
"""
_OF_MEASURING = frozenset({"measure", "out", "dtype", "as_json"})
_STYLES = {"ok": "green", "note": "yellow", "missing": "bold red"}


@app.command(epilog=_EPILOG)
def doctor(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Folder, hub id, or `factworld`")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of a hub id")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset: predict memory and disk of a method")] = None,
    method: Annotated[str, typer.Option(help="Method to predict")] = "alphaedit+sphere",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "bfloat16",
    batch: Annotated[int, typer.Option(min=1, help="Edits in a batch")] = 100,
    edits: Annotated[int, typer.Option(min=1, help="Edits of the whole stream")] = 1000,
    name: Annotated[
        str | None,
        typer.Option(
            "--accelerator",
            help="Predict for this one, which need not be here: "
            f"{', '.join(accelerator_names())}, or a file of --measure",
        ),
    ] = None,
    plugin: PluginOption = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this device's rates in --dtype instead; less than a minute")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="With --measure: the file for plan --price")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at versions, memory, tokens and a model's files; exit code 1 with the remedy if something is missing.

    Loads no weights and fetches nothing.
    """
    if measure:
        _refuse_beside_measure(context)
        _measure(dtype, out, as_json=as_json)
        return
    if out is not None:
        raise InputError("only rates are written", where="--out", remedy=f"sphere doctor --measure --out {out}")
    if name is not None and model is None:
        remedy = f"sphere doctor MODEL --preset PRESET --accelerator {name}"
        raise InputError("no model is given", where="--accelerator", remedy=remedy)
    card = None if name is None else accelerator(name, where="--accelerator")
    from workflows.preflight.machine import machine_findings
    from workflows.preflight.model import examine
    from workflows.preflight.stages import Room, stage_findings, weights_finding

    plugins = Plugins.of_files(plugin or (), where="--plugin")
    findings = machine_findings(Path.cwd())
    if model is not None:
        examined = examine(model, revision=revision, plugins=plugins)
        findings += examined.findings
        if preset is not None:
            findings += stage_findings(
                examined,
                method=method,
                preset_name=preset,
                dtype=dtype,
                batch=batch,
                edits=edits,
                room=None if card is None else Room.named(card),
                plugins=plugins,
            )
        elif card is not None:
            findings += weights_finding(examined, dtype=dtype, room=Room.named(card))
    _show(findings, as_json=as_json)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def _show(findings: "list[Finding]", *, as_json: bool) -> None:
    console = output_console()
    if as_json:
        print_json(console, {"findings": [asdict(finding) for finding in findings]})
        return
    for place, (part, members) in enumerate(groupby(findings, key=lambda finding: finding.part)):
        if place:
            console.print()
        console.print(_table(part, list(members)))


def _refuse_beside_measure(context: typer.Context) -> None:
    """Raise InputError for what is given and says nothing about measuring this device."""
    given = []
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name not in _OF_MEASURING and source is not None and source.name == "COMMANDLINE":
            option = parameter.opts[0]
            given.append(option if option.startswith("-") else str(context.params[name]))
    if given:
        remedy = f"leave out {', '.join(given)}, or --measure"
        raise InputError("this device is measured, and no model is looked at", where="--measure", remedy=remedy)


def _measure(dtype: str, out: Path | None, *, as_json: bool) -> None:
    import torch

    from sphere_core.costs.measure import measure_device
    from sphere_core.models.devices import pick_device
    from sphere_core.models.loading import torch_dtype

    chosen = torch_dtype(dtype, where="--dtype")
    if out is not None and out.suffix != ".json":
        raise InputError("the rates are written as JSON", where=str(out), remedy="give a file that ends in .json")
    rates = asdict(measure_device(torch.device(pick_device("auto")), chosen))
    if out is not None:
        with output_errors(out):
            out.write_text(json.dumps(rates, indent=1) + "\n", encoding="utf-8")
    console = output_console()
    if as_json:
        print_json(console, rates)
        return
    rows: list[list[Cell]] = [
        [f"passes in {dtype}", _rate(rates["bf16"])],
        ["products in float64", _rate(rates["float64"])],
        ["eigendecompositions in float64", _rate(rates["eigen_share"] * rates["float64"])],
        ["memory", f"{rates['memory'] / 1e9:,.0f} GB"],
    ]
    console.print(TextTable([Column("what"), Column("measured", right=True)], rows, rates["source"]))


def _rate(value: float) -> str:
    """Return FLOP/s in GFLOP/s: whole ones, of small rates two significant digits."""
    return f"{value / 1e9:,.0f} GFLOP/s" if value >= 1e10 else f"{value / 1e9:.2g} GFLOP/s"


def _table(part: str, findings: "list[Finding]") -> TextTable:
    rows: list[list[Cell]] = [
        [
            finding.what,
            Styled(finding.state, _STYLES[finding.state]),
            finding.found if finding.remedy is None else f"{finding.found}; {finding.remedy}",
        ]
        for finding in findings
    ]
    return TextTable([Column("what"), Column("state"), Column("found", prose=True)], rows, part)
