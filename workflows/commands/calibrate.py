"""`sphere calibrate`: a preset for a model that has none."""

from pathlib import Path
from typing import Annotated

import typer

from sphere_core.foundation.errors import InputError
from workflows.commands.dataset_options import DatasetArgument, PathOption, named_dataset
from workflows.commands.set_option import HyperparameterOption
from workflows.terminal.console import notice_console, output_console
from workflows.terminal.step_line import StepLine

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere calibrate factworld factworld --moments moments.safetensors --out factworld-own.yaml
  sphere calibrate ./my-model multi_counterfact --path multi_counterfact.json --dtype bfloat16 \\
      --editor alphaedit --nullspace-threshold 0.02 --moments my-moments.safetensors --minutes 90 --out my-model.yaml

Second moments must cover the candidate layers, which --layers prints. Use the result in a sweep:
  models: [{source: ./my-model, dtype: bfloat16, preset: my-model.yaml}]
"""


@app.command(epilog=_EPILOG)
def calibrate(
    model: Annotated[str, typer.Argument(help="Model folder, hub id, or `factworld`")],
    dataset: DatasetArgument,
    out: Annotated[Path | None, typer.Option(help="Preset to write (YAML)")] = None,
    path: PathOption = None,
    moments: Annotated[Path | None, typer.Option(help="Second moments of the candidate layers")] = None,
    editor: Annotated[str, typer.Option(help="Editor: memit or alphaedit")] = "memit",
    nullspace_threshold: Annotated[float | None, typer.Option(help="AlphaEdit: eigenvalues of C0 below this")] = None,
    nullspace_share: Annotated[float | None, typer.Option(help="AlphaEdit: or this share of them")] = None,
    set_: HyperparameterOption = None,
    requests: Annotated[int, typer.Option(min=4, help="Held-out requests: half search, half decide")] = 64,
    minutes: Annotated[float, typer.Option(min=0.1, help="Budget of the search in time")] = 30.0,
    most: Annotated[int, typer.Option("--trials", min=1, help="Budget of the search in trials")] = 100,
    dtype: Annotated[str, typer.Option(help="The network's dtype")] = "float32",
    device: Annotated[str, typer.Option(help="torch device; auto: the accelerator, or else the CPU")] = "auto",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Torch threads")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Only print the candidate layers")] = False,
) -> None:
    """Search layers, learning rate, clamp and ridge on the LAST requests of a data set, and write a preset.

    The last ones, so that streams in canonical order do not edit what the preset was chosen on.
    """
    from transformers.utils import logging as transformers_logging

    from workflows.runs.calibrate import TRIALS_HEAD, Budget, calibrate_preset, layers_to_search, trial_line
    from workflows.sweeps.overrides import set_hyperparameters

    transformers_logging.disable_progress_bar()
    console = output_console()
    if layers:
        console.print(",".join(map(str, layers_to_search(model=model, dtype=dtype, device=device))), highlight=False)
        return
    if out is None or moments is None:
        raise InputError("a calibration needs --moments and --out", where="sphere calibrate", remedy="see --help")
    console.print(TRIALS_HEAD, highlight=False)
    named = {"nullspace_threshold": nullspace_threshold, "nullspace_share": nullspace_share}
    overrides = {name: value for name, value in named.items() if value is not None} | set_hyperparameters(set_ or ())
    with StepLine(console if console.is_terminal else notice_console()) as line:
        found = calibrate_preset(
            model=model,
            dtype=dtype,
            dataset=named_dataset(dataset, path=path),
            editor=editor,
            moments=moments,
            budget=Budget(requests=requests, minutes=minutes, trials=most),
            out=out,
            overrides=overrides,
            threads=threads,
            device=device,
            on_trial=lambda number, trial: console.print(trial_line(number, trial), highlight=False),
            on_step=lambda number, position: line.show(f"trial {number}: {position}"),
        )
    console.print(f"preset: {out}; layers {list(found.best.layers)}", highlight=False, soft_wrap=True)
