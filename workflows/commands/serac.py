"""`sphere serac train`: the scope classifier and the counterfactual model of the method serac."""

from pathlib import Path
from typing import Annotated

import typer

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
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _serac() -> None:
    """The two models that the method serac uses; no sweep trains them."""


_EPILOG = """\b
Examples:
  sphere serac train gpt2-xl zsre --path zsre_mend_train.json --out serac \\
      --classifier distilbert-base-cased --counterfactual gpt2 \\
      --steps 20000 --batch-size 10 --lr 1e-5 --threshold 0.5
  sphere serac train factworld facts --path other-people.json --out serac \\
      --width 64 --steps 500 --batch-size 32 --lr 1e-3 \\
      --lr-counterfactual 3e-3 --threshold 0.5

Take records that no sweep edits or asks. SERAC's paper has a rate of 1e-5, batches of 10, a threshold of 0.5 and at
most 100,000 steps. Run the same command to resume: a model that is done is kept. In a sweep file:
`{name: serac, hyperparameters: {serac_classifier: OUT/classifier, serac_counterfactual: OUT/counterfactual}}`.
"""


@app.command(short_help="Train a scope classifier and a counterfactual model", epilog=_EPILOG)
def train(
    model: Annotated[str, typer.Argument(help="The model that will be edited: folder, hub id or factworld")],
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder for the two models: classifier and counterfactual")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each model")],
    batch_size: Annotated[int, typer.Option(min=2, help="Edits in a step")],
    lr: Annotated[float, typer.Option(min=1e-30, help="Rate of Adam, for the classifier; else for both")],
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Scope above it, for the shares that are reported")],
    lr_counterfactual: Annotated[
        float | None, typer.Option(min=1e-30, help="Rate for the counterfactual model")
    ] = None,
    classifier: Annotated[str | None, typer.Option(help="Encoder to start from: folder or hub id")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="In place of --classifier: a new encoder this wide")] = None,
    counterfactual: Annotated[
        str | None, typer.Option(help="Causal model with MODEL's tokens to start from; default: MODEL")
    ] = None,
    check: Annotated[int, typer.Option(min=2, help="The last records, which are not trained on but reported")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Order of the records, weights of a new encoder")] = 0,
    path: PathOption = None,
    hub: HubOption = None,
    revision: RevisionOption = None,
    config: ConfigOption = None,
    split: SplitOption = None,
    file: FileOption = None,
    target: TargetOption = None,
    incomplete: IncompleteOption = "refuse",
) -> None:
    """Train both models on a train split and report what of records that were left out is routed and answered."""
    from workflows.runs.serac import SeracTraining, train_serac

    source = {"path": path, "hub": hub, "revision": revision, "config": config, "split": split, "file": file}
    training = SeracTraining(
        model=model,
        data=named_dataset(dataset, **source, target=target, incomplete=incomplete),
        out=out,
        classifier=classifier,
        width=width,
        counterfactual=counterfactual or model,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        lr_counterfactual=lr_counterfactual or lr,
        threshold=threshold,
        check=check,
        seed=seed,
    )
    console = output_console()
    for line in train_serac(training, console):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
