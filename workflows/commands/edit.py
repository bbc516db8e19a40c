"""`sphere edit`: one trajectory in this process, one checkpoint per batch."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.commands.dataset_options import IncompleteOption, TargetOption, named_dataset, one_of
from workflows.commands.plugin_option import PluginOption
from workflows.commands.set_option import HyperparameterOption
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere edit --model ./gpt2-xl --requests counterfact.json --method memit \\
      --hparams gpt2-xl.json --moments stats.npz --batch-size 100 --out edited
  sphere edit --model factworld --requests facts.csv --dataset facts \\
      --method alphaedit+sphere --preset factworld \\
      --moments moments.safetensors --batch-size 25 --out edited

OUT/000025/weights.safetensors then holds each edited weight after 25 edits, under the model's own
parameter name and in its own orientation. Run the same command to resume from the last checkpoint.
"""


@app.command(epilog=_EPILOG)
def edit(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or 'factworld'")],
    requests: Annotated[Path, typer.Option(help="JSON, JSON lines, Parquet or CSV file, edited in file order")],
    method: Annotated[str, typer.Option(help="Method, such as memit or alphaedit+sphere")],
    batch_size: Annotated[int, typer.Option(min=1, help="Requests edited together")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints")],
    dataset: Annotated[
        str, typer.Option(help="Schema of the requests; 'sphere data --help' lists them")
    ] = "counterfact",
    target: TargetOption = None,
    incomplete: IncompleteOption = "refuse",
    too_long: Annotated[
        str, typer.Option(help="Records longer than the model's positions: 'refuse' or 'skip' them")
    ] = "refuse",
    moments: Annotated[
        Path | None, typer.Option(help="Second moments: npz with layer{l} arrays, or our safetensors")
    ] = None,
    hparams: Annotated[Path | None, typer.Option(help="Published hyperparameter file, JSON or YAML")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset of hyperparameters, in place of --hparams")] = None,
    set_: HyperparameterOption = None,
    contexts: Annotated[Path | None, typer.Option(help="JSON list of template groups; default: sampled")] = None,
    plugin: PluginOption = None,
    dtype: Annotated[str, typer.Option(help="The network's dtype; edited weights are always kept in fp32")] = "float32",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of sampled templates")] = 0,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Torch threads; they change the order of sums")] = 1,
    device: Annotated[str, typer.Option(help="torch device; auto: the accelerator, or else the CPU")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub id")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python files that come with the model")
    ] = False,
) -> None:
    """Run one trajectory without Ray and keep a checkpoint after every batch. All inputs are checked first."""
    from workflows.runs.edit import EditOptions, run_edit

    options = EditOptions(
        model=model,
        requests=named_dataset(dataset, path=str(requests), target=target, incomplete=incomplete),
        method=method,
        moments=moments,
        batch_size=batch_size,
        out=out,
        hparams=hparams,
        preset=preset,
        contexts=contexts,
        dtype=dtype,
        seed=seed,
        threads=threads,
        device=device,
        revision=revision,
        remote_code=trust_remote_code,
        too_long=one_of("--too-long", too_long, ("refuse", "skip")),
        plugins=tuple(plugin or ()),
        overrides=tuple(set_ or ()),
    )
    run_edit(options, output_console())
