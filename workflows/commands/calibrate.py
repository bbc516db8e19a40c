"""`sphere calibrate`: a preset for a model that has none."""

from pathlib import Path
from typing import Annotated

import typer

from sphere_core.foundation.errors import InputError
from sphere_core.plugins import Plugins
from workflows.commands.dataset_options import DatasetArgument, PathOption, named_dataset, one_of
from workflows.commands.plugin_option import PluginOption
from workflows.commands.set_option import HyperparameterOption
from workflows.terminal.console import notice_console, output_console
from workflows.terminal.step_line import StepLine

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere calibrate factworld factworld --moments moments.safetensors \\
      --out factworld-own.yaml
  sphere calibrate ./my-model --layers
  sphere calibrate ./my-model multi_counterfact \\
      --path multi_counterfact.json --dtype bfloat16 \\
      --editor memit --editor alphaedit --moments my-moments.safetensors \\
      --minutes 90 --out my-model.yaml

Second moments are needed of the layers that are tried, which --layers prints. The same command resumes after an
interruption, and continues with more --minutes. In a sweep, whose streams leave out what the preset was chosen on:

\b
  models: [{source: ./my-model, dtype: bfloat16, preset: my-model.yaml}]
"""


@app.command(epilog=_EPILOG)
def calibrate(
    model: Annotated[str, typer.Argument(help="Model folder, hub id, or `factworld`")],
    dataset: DatasetArgument = "",
    out: Annotated[Path | None, typer.Option(help="Preset to write (YAML)")] = None,
    path: PathOption = None,
    moments: Annotated[Path | None, typer.Option(help="Second moments of the layers that are tried")] = None,
    editor: Annotated[
        list[str] | None, typer.Option(help="memit (default) or alphaedit; repeatable: all in one preset")
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="What efficacy and generalization are weighed against: agreement with the unedited model's answers, "
            "probability (all three under that protocol), or argmax (specificity, for a model that knows the facts)"
        ),
    ] = "agreement",
    set_: HyperparameterOption = None,
    requests: Annotated[int, typer.Option(min=4, help="Held-out requests: half search, half decide")] = 64,
    minutes: Annotated[float, typer.Option(min=0.1, help="Budget in time, loading included")] = 30.0,
    most: Annotated[int, typer.Option("--trials", min=1, help="Budget in trials")] = 100,
    spans: Annotated[str | None, typer.Option(help="Spans of layers to try, the first one first: 4-8,8-12")] = None,
    log: Annotated[Path | None, typer.Option(help="Log of trials; default: --out with the ending .jsonl")] = None,
    dtype: Annotated[str, typer.Option(help="The network's dtype")] = "float32",
    device: Annotated[str, typer.Option(help="torch device; auto: the accelerator, or else the CPU")] = "auto",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Torch threads")] = 1,
    plugin: PluginOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Only print the layers that are tried")] = False,
) -> None:
    """Search layers, learning rate, clamp and ridge on the LAST requests of a data set, and write a preset.

    Each trial writes one batch into the unedited model and scores it. The budget is divided over the hyperparameters;
    what it did not reach is said, and recorded in the preset.
    """
    from transformers.utils import logging as transformers_logging

    from workflows.runs.calibrate import Budget, calibrate_preset, layers_to_search
    from workflows.runs.calibration_lines import CalibrationLines
    from workflows.sweeps.overrides import set_hyperparameters

    transformers_logging.disable_progress_bar()
    console = output_console()
    plugins = Plugins.of_files(plugin or (), where="--plugin")
    if layers:
        console.print(",".join(map(str, layers_to_search(model=model, spans=spans, plugins=plugins))), highlight=False)
        return
    if out is None or moments is None or not dataset:
        what = "a calibration needs a data set, --moments and --out"
        raise InputError(what, where="sphere calibrate", remedy="see sphere calibrate --help")
    chosen = one_of("--objective", objective, ("agreement", "probability", "argmax"))
    with StepLine(console if console.is_terminal else notice_console()) as line:
        lines = CalibrationLines(console, line, chosen)
        found = calibrate_preset(
            model=model,
            dtype=dtype,
            dataset=named_dataset(dataset, path=path),
            editors=editor or ["memit"],
            moments=moments,
            budget=Budget(requests=requests, minutes=minutes, trials=most),
            out=out,
            log=log,
            objective=chosen,
            spans=spans,
            overrides=set_hyperparameters(set_ or ()),
            threads=threads,
            device=device,
            plugins=plugins,
            listener=lines,
        )
    lines.end(found, out)
