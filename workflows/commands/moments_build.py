"""`sphere moments build`: one pass over a corpus, into the store."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.commands.plugin_option import PluginOption
from workflows.store.corpus import WIKIPEDIA
from workflows.terminal.console import output_console

__all__ = ["EPILOG", "StoreOption", "build"]

StoreOption = Annotated[
    str | None, typer.Option(help="Where moments are kept; default: $SPHERE_MOMENTS, or a folder in the cache")
]

EPILOG = """\b
Examples:
  sphere moments build meta-llama/Meta-Llama-3-8B-Instruct \\
      --preset llama3-8b --dtype bfloat16 --tokens 50000000
  sphere moments build ./gpt2-xl --layers 13,14,15,16,17 \\
      --corpus a.jsonl --corpus b.parquet --tokens 10000000
  sphere moments build ./gpt2-xl --preset gpt2-xl --corpus wikipedia.txt \\
      --sentences 100000 --shards 4 --address auto --store /shared/moments
  sphere moments build factworld --layers 0,1 --corpus factworld \\
      --sentences 4000

All layers come from one pass; every forward stops at the last of them. One text is one row, cut at --max-tokens;
special tokens are those the tokenizer adds, and count; padding never does. After a
kill, run the same command to resume, with equal bits. Shards add up to the same bits as one process.
Use the result in a sweep with the line that is printed at the end.
"""


def build(
    model: Annotated[str, typer.Argument(help="Model folder, hub id, or 'factworld'")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Hub id, text, JSONL or Parquet file (may be given again), or 'factworld'; "
            f"default: {WIKIPEDIA}, 20231101.en"
        ),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Layers, separated by commas")] = None,
    preset_name: Annotated[str | None, typer.Option("--preset", help="Take the layers of MEMIT in a preset")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens taken from the corpus")] = None,
    sentences: Annotated[int | None, typer.Option(min=1, help="Texts taken from the corpus, in place of it")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longer texts are cut there; default 1024")] = None,
    dtype: Annotated[str, typer.Option(help="The network's dtype; sums are always float64")] = "float32",
    revision: Annotated[str | None, typer.Option(help="Commit or tag of the model's hub id")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python files that come with the model")
    ] = False,
    corpus_config: Annotated[str | None, typer.Option(help="Configuration of a hub corpus")] = None,
    corpus_revision: Annotated[str | None, typer.Option(help="Commit of a hub corpus")] = None,
    field: Annotated[str, typer.Option(help="Field with the text in JSONL, Parquet and hub corpora")] = "text",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the fact world's sentences")] = 0,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(help="Also write all layers as this one file")] = None,
    shards: Annotated[int, typer.Option(min=1, max=16, help="Parts built at the same time, as Ray workers")] = 1,
    address: Annotated[str | None, typer.Option(help="Ray cluster for the shards; default: this machine")] = None,
    forward_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of one forward; default: as fit")] = None,
    save_every: Annotated[float, typer.Option(min=0, help="Seconds between two savings of sums")] = 60.0,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Torch threads; they change the order of sums")] = 1,
    device: Annotated[str, typer.Option(help="torch device; auto: the accelerator, or else the CPU")] = "auto",
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Also of the outputs' gradients, by a backward pass (crispedit)")
    ] = False,
    plugin: PluginOption = None,
) -> None:
    """Build second moments of several layers in one pass over a corpus, into a content-addressed store."""
    import torch
    from transformers.utils import logging as transformers_logging

    from workflows.moments.corpus_texts import WIKIPEDIA
    from workflows.runs.moments import BuildOptions, run_build

    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()
    options = BuildOptions(
        model=model,
        corpus=tuple(corpus or [WIKIPEDIA]),
        layers=layers,
        preset=preset_name,
        tokens=tokens,
        sentences=sentences,
        max_tokens=max_tokens,
        dtype=dtype,
        revision=revision,
        remote_code=trust_remote_code,
        corpus_config=corpus_config,
        corpus_revision=corpus_revision,
        field=field,
        seed=seed,
        store=store,
        out=out,
        shards=shards,
        address=address,
        forward_tokens=forward_tokens,
        save_every=save_every,
        threads=threads,
        device=device,
        gradients=gradients,
        plugins=tuple(plugin or ()),
    )
    run_build(options, output_console())
