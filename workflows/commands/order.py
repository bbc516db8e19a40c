"""`sphere order`: orders of a data set by the similarity of its edits' keys."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TimeRemainingColumn

from sphere_core.plugins import Plugins
from workflows.commands.dataset_options import (
    ConfigOption,
    DatasetArgument,
    FileOption,
    HubOption,
    IncompleteOption,
    PathOption,
    RevisionOption,
    SplitOption,
    TargetOption,
    named_dataset,
)
from workflows.commands.plugin_option import PluginOption
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere order multi_counterfact --path multi_counterfact.json \\
      --model meta-llama/Meta-Llama-3-8B-Instruct --dtype bfloat16 \\
      --layer 4 --edits 10000 --seed 0 --out orders
  sphere order factworld --model factworld --layer 0 --edits 500 --seed 0 \\
      --out orders

This takes the edits that 'order: shuffled' takes at the same seed, reads each edit's key off the unedited model at one
layer, and writes OUT/clustered-SEED.json (k-means by cosine: similar keys one after the other) and
OUT/dispersed-SEED.json (kernel herding: similar keys far apart). A sweep compares them on the same edits:

\b
  streams:
    - dataset: multi_counterfact
      path: multi_counterfact.json
      edits: 10000
      order: shuffled
    - dataset: multi_counterfact
      path: multi_counterfact.json
      edits: 10000
      order: {given: orders/clustered-0.json}
    - dataset: multi_counterfact
      path: multi_counterfact.json
      edits: 10000
      order: {given: orders/dispersed-0.json}

The files say which data set and model they are for; with any other data set a sweep refuses them.
"""


@app.command(epilog=_EPILOG)
def order(
    dataset: DatasetArgument,
    model: Annotated[str, typer.Option(help="Model folder, hub id, or 'factworld'")],
    layer: Annotated[int, typer.Option(help="Layer whose keys are compared; take the first one you edit")],
    edits: Annotated[int, typer.Option(min=1, help="Edits to put in order")],
    out: Annotated[Path, typer.Option(help="Folder for the order files")],
    path: PathOption = None,
    hub: HubOption = None,
    revision: RevisionOption = None,
    config: ConfigOption = None,
    split: SplitOption = None,
    file: FileOption = None,
    target: TargetOption = None,
    incomplete: IncompleteOption = "refuse",
    plugin: PluginOption = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the chosen edits and of the clusters")] = 0,
    clusters: Annotated[int | None, typer.Option(min=1, help="Clusters; default: the square root of the edits")] = None,
    model_revision: Annotated[str | None, typer.Option(help="Commit or tag of the model's hub id")] = None,
    dtype: Annotated[str, typer.Option(help="The network's dtype")] = "float32",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Torch threads; they change the order of sums")] = 1,
    device: Annotated[str, typer.Option(help="torch device; auto: the accelerator, or else the CPU")] = "auto",
) -> None:
    """Write orders in which edits with similar keys come together, or as far apart as possible."""
    import torch
    from transformers.utils import logging as transformers_logging

    from workflows.runs.order import order_by_keys, order_lines

    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()
    source = {"path": path, "hub": hub, "revision": revision, "config": config, "split": split, "file": file}
    spec = named_dataset(dataset, **source, target=target, incomplete=incomplete)
    plugins = Plugins.of_files(plugin or (), where="--plugin")
    console = output_console()
    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("keys", total=edits)
        written = order_by_keys(
            dataset=spec,
            model=model,
            dtype=dtype,
            layer=layer,
            edits=edits,
            seed=seed,
            out=out,
            clusters=clusters,
            revision=model_revision,
            device=device,
            plugins=plugins,
            on_progress=lambda done, of: progress.update(bar, completed=done, total=of),
        )
    for line in order_lines(written):
        console.print(line, highlight=False, soft_wrap=True)
