"""`sphere calibrate`: a preset for a model that has none."""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from transformers.utils import logging as transformers_logging

from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.locate.contexts import ContextSettings, sample_contexts
from sphere_core.methods import resolve_method
from sphere_core.models import load_model
from sphere_core.models.loading import pick_device
from sphere_core.moments.files import read_moments
from sphere_core.moments.record import check_moments
from sphere_core.requests import EditRequest, requests_digest
from workflows.commands.console import output_console
from workflows.commands.dataset_options import DatasetArgument, PathOption, named_dataset
from workflows.runs.calibrated_preset import calibrated_preset
from workflows.runs.calibration import RIDGES, Bench, Trial, candidate_layers, search

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_SCORES = "efficacy  general.  specif.    score  HE drift"
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
    editor: Annotated[str, typer.Option(help=f"Editor: {' or '.join(RIDGES)}")] = "memit",
    nullspace_threshold: Annotated[float | None, typer.Option(help="AlphaEdit: eigenvalues of C0 below this")] = None,
    nullspace_share: Annotated[float | None, typer.Option(help="AlphaEdit: or this share of them")] = None,
    requests: Annotated[int, typer.Option(min=4, help="Held-out requests: half search, half decide")] = 64,
    minutes: Annotated[float, typer.Option(min=0.1, help="Budget of the search in time")] = 30.0,
    most: Annotated[int, typer.Option("--trials", min=1, help="Budget of the search in trials")] = 100,
    dtype: Annotated[str, typer.Option(help="The network's dtype")] = "float32",
    device: Annotated[str, typer.Option(help="torch device; auto: the accelerator, or else the CPU")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Only print the candidate layers")] = False,
) -> None:
    """Search layers, learning rate, clamp and ridge on the LAST requests of a data set, and write a preset.

    The last ones, so that streams in canonical order do not edit what the preset was chosen on.
    """
    if editor not in RIDGES:
        raise unknown_name("editor to calibrate", editor, RIDGES)
    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()
    console = output_console()
    source = named_dataset(dataset, path=path)
    held_out = _held_out(source, requests)
    loaded = load_model(model, dtype=dtype, device=pick_device(device))
    wanted = sorted({layer for span in candidate_layers(len(loaded.layers)) for layer in span})
    if layers:
        console.print(",".join(map(str, wanted)), highlight=False)
        return
    if out is None or moments is None:
        raise InputError("a calibration needs --moments and --out", where="sphere calibrate", remedy="see --help")
    known = read_moments(moments)
    check_moments(known, loaded.open_sites(wanted), where=str(moments), model_digest=loaded.base_digest)
    overrides = {"nullspace_threshold": nullspace_threshold, "nullspace_share": nullspace_share}
    bench = Bench(
        loaded,
        resolve_method(editor),
        {name: value for name, value in overrides.items() if value is not None},
        known,
        sample_contexts(loaded, ContextSettings(), 0),
    )
    trials = _search(console, bench, held_out, minutes, most)
    best = max((trial for trial in trials if trial.held_out), key=lambda trial: trial.rank)
    made_of = {
        "model_digest": loaded.base_digest,
        "dtype": dtype,
        "data_set": source.name,
        "requests_digest": requests_digest(held_out),
        "moments_digest": known.digest,
    }
    text = calibrated_preset(editor, bench.hyperparameters(best.candidate), trials, made_of=made_of)
    out.write_text(text, encoding="utf-8")
    console.print(f"preset: {out}; layers {list(best.candidate.layers)}", highlight=False, soft_wrap=True)


def _held_out(source: DatasetSpec, count: int) -> list[EditRequest]:
    """Return the last requests of a data set, one a subject, so that none writes over another."""
    found = {request.subject: request for record in read_dataset(source).records for request in record.requests}
    chosen = list(found.values())[-count:]
    if len(chosen) < count:
        raise InputError(
            f"the data set has {len(chosen)} subjects, {count} requests are asked for",
            where=source.source,
            remedy=f"set --requests to at most {len(chosen)}",
        )
    return chosen


def _search(console: Console, bench: Bench, requests: list[EditRequest], minutes: float, most: int) -> list[Trial]:
    """Run the trials and print each as it ends; half of the requests search, the other half decides."""
    ends = time.monotonic() + 60 * minutes
    half = len(requests) // 2
    trials: list[Trial] = []
    console.print(
        f"{'trial':>5}  {'layers':<14} {'v_lr':>5} {'clamp':>5} {'ridge':>8}  {_SCORES}  seconds", highlight=False
    )

    def enough() -> bool:
        return time.monotonic() > ends or len(trials) >= most

    for trial in search(bench, requests[:half], requests[half:], enough=enough):
        trials.append(trial)
        console.print(_line(len(trials), trial), highlight=False)
    return trials


def _line(number: int, trial: Trial) -> str:
    chosen = trial.candidate
    span = f"{chosen.layers[0]}-{chosen.layers[-1]}" if len(chosen.layers) > 1 else str(chosen.layers[0])
    values = (trial.efficacy, trial.generalization, trial.specificity, trial.score, trial.he_drift)
    cells = ["collapsed" if value is None else f"{value:.3f}" for value in values]
    text = f"{number:>5}  {span:<14} {chosen.v_lr:>5g} {chosen.clamp_norm_factor:>5g} {chosen.ridge:>8g}  "
    text += " ".join(f"{cell:>8}" for cell in cells) + f"  {trial.seconds:>7.1f}"
    return text + ("  held out" if trial.held_out else "")
