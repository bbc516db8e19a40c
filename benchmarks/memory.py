"""Peak memory of each stage of a trajectory, measured and predicted, on a randomly initialised model.

`python -m benchmarks.memory --shape meta-llama/Llama-3.2-1B` builds a model of that shape in a temporary folder and
takes it through loading, second moments, one batch of edits, a checkpoint and its scores, in one process on the CPU.
"""

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks.models import random_requests
from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from sphere_core.checkpoints import Checkpoint, EditorState, write_checkpoint
from sphere_core.costs import ModelShape, TextLengths, Workload, published_config, shape_of_config, stages, workload_of
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import Hyperparameters, preset
from sphere_core.methods import Method, resolve_method
from sphere_core.models import load_model
from sphere_core.models.loading import DTYPES
from sphere_core.moments.build import build_second_moments
from sphere_core.moments.packing import Amount, Packing, Pass

__all__ = ["main"]

_GB = 1e9
_TEXT_TOKENS = 256


@dataclass
class Peaks:
    """The most memory this process held during each stage, in bytes, and its seconds."""

    found: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage; Linux resets the peak when a 5 is written to clear_refs."""
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        started = time.perf_counter()
        yield
        status = Path("/proc/self/status").read_text(encoding="ascii")
        kilobytes = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        if kilobytes is None:
            raise RuntimeError("the kernel tells no peak")
        self.found[name] = (int(kilobytes[1]) * 1024.0, time.perf_counter() - started)


def main(
    shape: Annotated[str, typer.Option(help="Hub id of a published shape")] = "meta-llama/Llama-3.2-1B",
    method: Annotated[str, typer.Option(help="Method")] = "alphaedit+sphere",
    layers: Annotated[str, typer.Option(help="Edited layers, with commas")] = "4,5,6,7,8",
    dtype: Annotated[str, typer.Option(help="The network's dtype")] = "bfloat16",
    edits: Annotated[int, typer.Option(help="Edits of the one batch")] = 10,
    steps: Annotated[int, typer.Option(help="Forwards of the target optimisation")] = 4,
    texts: Annotated[int, typer.Option(help="Texts of 256 tokens for the second moments")] = 16,
    threads: Annotated[int, typer.Option(help="Threads")] = 2,
) -> None:
    """Measure the peak of every stage and print it beside what was predicted."""
    torch.set_num_threads(threads)
    chosen = resolve_method(method)
    overrides = {"layers": tuple(int(layer) for layer in layers.split(",")), "v_num_grad_steps": steps}
    if "nullspace_threshold" in str(chosen.editor_row.requires):
        # Random weights have no published threshold: half of the directions are free.
        overrides |= {"nullspace_threshold": None, "nullspace_share": 0.5}
    hyperparameters = preset("llama3-8b", chosen.editor_name, chosen.regularizer_names, overrides)
    config = published_config(shape)
    sizes = shape_of_config(config, where=shape)
    with tempfile.TemporaryDirectory() as folder:
        _write_model(Path(folder), config, dtype)
        peaks = _run(Path(folder), chosen, hyperparameters, dtype=dtype, edits=edits, texts=texts)
    work = workload_of(
        chosen,
        hyperparameters,
        dtype_bytes=DTYPES[dtype].itemsize,
        batch=edits,
        edits=edits,
        contexts=6,
        lengths=TextLengths(prompt=20, target=2, probe_rows=2),
        on_accelerator=False,
    )
    Console(width=120).print(_table(f"{shape}, {dtype}, {method}, {edits} edits", sizes, work, peaks))


def _run(
    folder: Path, method: Method, hyperparameters: Hyperparameters, *, dtype: str, edits: int, texts: int
) -> Peaks:
    peaks = Peaks()
    with peaks.stage("load"):
        model = load_model(str(folder), dtype=dtype, device="cpu", digest="random")
    requests, contexts = random_requests(model, edits)
    moments = None
    if method.needs_moments(hyperparameters):
        with peaks.stage("second moments"):
            work = Pass(hyperparameters.layers, Packing(max_tokens_per_text=_TEXT_TOKENS), Amount(texts=texts))
            corpus = (" ".join(f"w{(17 * i + j) % 20000}" for j in range(_TEXT_TOKENS)) for i in range(texts))
            moments = build_second_moments(model, work, corpus, provenance={})
    with peaks.stage("edit"):
        editor = method.build(hyperparameters, moments)
        state = editor.edit(model, requests, contexts, EditorState())
    with peaks.stage("checkpoint"):
        checkpoint = Checkpoint("random", edits, model.edited_weights(), state, contexts, collapsed=False)
        write_checkpoint(checkpoint, Storage(str(folder / "checkpoints")))
    del editor, state, moments, checkpoint
    with peaks.stage("score"):
        subject = Subject(model, tuple(requests), edits)
        EditQuality(EditQualitySettings()).score(subject)
        Geometry(GeometrySettings()).score(subject)
    return peaks


def _write_model(folder: Path, config: object, dtype: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype], trust_remote_code=False)
    network.save_pretrained(folder)
    words = ["[UNK]", "is", "a", "."]
    words += [f"w{index}" for index in range(network.config.vocab_size - len(words))]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token=words[0]).save_pretrained(folder)


def _table(title: str, shape: ModelShape, work: Workload, peaks: Peaks) -> Table:
    predicted = {stage.name: stage.host for stage in stages(shape, work)}
    predicted["edit"] = max(predicted.pop("write"), predicted.pop("targets", 0.0))
    table = Table(title=title, title_justify="left")
    for name in ("stage", "seconds", "measured peak", "predicted", "predicted / measured"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, (peak, seconds) in peaks.found.items():
        guess = predicted[name]
        table.add_row(name, f"{seconds:.1f}", f"{peak / _GB:.2f} GB", f"{guess / _GB:.2f} GB", f"{guess / peak:.2f}")
    whole = max(peak for peak, _ in peaks.found.values())
    most = max(predicted.values())
    table.add_row("all", "", f"{whole / _GB:.2f} GB", f"{most / _GB:.2f} GB", f"{most / whole:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
