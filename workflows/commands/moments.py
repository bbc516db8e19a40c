"""`sphere moments build`: second moments of a model's sites over a text corpus."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress, TimeRemainingColumn
from transformers.utils import logging as transformers_logging

from sphere_core.errors import InputError
from sphere_core.fingerprint import file_digest
from sphere_core.models import load_model
from sphere_core.moments.build import Pass, build_second_moments
from sphere_core.moments.files import write_moments
from sphere_core.moments.packing import Amount, Packing
from sphere_core.storage import Storage
from workflows.consoles import output_console
from workflows.corpora import read_corpus
from workflows.replica_model import pick_device

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _moments() -> None:
    """Second moments C0 = E[k k^T] of the inputs of a model's edited weights."""


_EPILOG = """\b
Examples:
  sphere moments build --model ./gpt2-xl --layers 13,14,15,16,17 --corpus wikipedia.txt \\
      --sentences 100000 --out gpt2-xl-moments.safetensors
  sphere moments build --model factworld --layers 0,1 --corpus factworld --sentences 4000 --out moments.safetensors

A text corpus has one text a line. Use the file in a sweep with `moments: {file: PATH}`.
"""


@app.command(epilog=_EPILOG)
def build(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or 'factworld'")],
    layers: Annotated[str, typer.Option(help="Layers, separated by commas")],
    corpus: Annotated[str, typer.Option(help="Text file with one text a line, or 'factworld'")],
    sentences: Annotated[int, typer.Option(min=1, help="Texts taken from the corpus")],
    out: Annotated[Path, typer.Option(help="File to write (safetensors)")],
    dtype: Annotated[str, typer.Option(help="The network's dtype")] = "float32",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longer texts are cut there")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed of the embedded corpus")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads; they change the order of sums")] = 1,
    device: Annotated[str, typer.Option(help="torch device; auto: the accelerator, or else the CPU")] = "auto",
) -> None:
    """Build second moments in one pass over a corpus, all layers at once."""
    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()
    chosen = _layers(layers)
    texts = read_corpus(corpus, sentences, seed)
    loaded = load_model(model, dtype=dtype, device=pick_device(device))
    loaded.open_sites(chosen)
    provenance = {"corpus": Path(corpus).name, "texts": str(len(texts)), "max_tokens_per_text": str(max_tokens)}
    if Path(corpus).is_file():
        provenance["corpus_digest"] = file_digest(Path(corpus))
    console = output_console()
    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("texts", total=len(texts))
        moments = build_second_moments(
            loaded,
            Pass(tuple(chosen), Packing(max_tokens), Amount(texts=len(texts))),
            texts,
            provenance=provenance,
            on_progress=lambda done: progress.update(bar, completed=done.texts),
        )
    Storage(out.resolve().parent).write_file(out.name, lambda path: write_moments(moments, path))
    console.print(f"{moments.count} tokens, layers {layers}: {out}", highlight=False, soft_wrap=True)


def _layers(text: str) -> list[int]:
    try:
        layers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"'{text}' is not a list of layers", where="--layers", remedy="for example 4,5,6") from error
    return sorted(set(layers))
