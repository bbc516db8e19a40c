"""A preset for a model that has none: the search on held-out requests, and the file that it gives."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.user_files import output_errors
from sphere_core.foundation.work_progress import Position
from sphere_core.locate.contexts import sample_contexts
from sphere_core.locate.templates import ContextSettings
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel, load_model
from sphere_core.models.devices import pick_device
from sphere_core.moments.files import read_moments
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.requests import EditRequest, requests_digest
from sphere_core.streams.lengths import refuse_long
from sphere_core.streams.model_room import room_of_model
from workflows.runs.calibrated_preset import calibrated_preset
from workflows.runs.calibration_search import (
    RIDGES,
    Bench,
    Candidate,
    Trial,
    candidate_layers,
    check_overrides,
    search,
)

__all__ = ["TRIALS_HEAD", "Budget", "Calibration", "calibrate_preset", "layers_to_search", "trial_line"]

_SCORES = "efficacy  general.  specif.    score  HE drift"
TRIALS_HEAD = f"{'trial':>5}  {'layers':<14} {'v_lr':>5} {'clamp':>5} {'ridge':>8}  {_SCORES}  seconds"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a search may cost: held-out requests (half search, half decide), minutes, trials."""

    requests: int
    minutes: float
    trials: int


@dataclass(frozen=True)
class Calibration:
    """The candidate that was decided on, all trials in the order they were run, and the preset as YAML."""

    best: Candidate
    trials: tuple[Trial, ...]
    preset: str


def layers_to_search(*, model: str, dtype: str, device: str = "auto") -> list[int]:
    """Return the layers among which a calibration chooses: second moments must cover them."""
    return _candidates(load_model(model, dtype=dtype, device=pick_device(device)))


def calibrate_preset(
    *,
    model: str,
    dtype: str,
    dataset: DatasetSpec,
    editor: str,
    moments: Path,
    budget: Budget,
    out: Path,
    overrides: Mapping[str, Any] | None = None,
    threads: int = 1,
    device: str = "auto",
    on_trial: Callable[[int, Trial], None] = lambda number, trial: None,
    on_step: Callable[[int, Position], None] = lambda number, position: None,
) -> Calibration:
    """Search layers, learning rate, clamp and ridge on the last requests of a data set and write the preset `out`.

    The last ones, so that streams in canonical order do not edit what the preset was chosen on. `overrides` are
    hyperparameters that are not searched. `on_trial` takes the number of each trial and the trial, as it ends,
    `on_step` the number of the trial under way and how far it is. Raises InputError before the first trial for an
    editor that cannot be calibrated, an override of what is searched, too few requests, or second moments that do not
    cover the candidate layers; then nothing is written.
    """
    if editor not in RIDGES:
        raise unknown_name("editor to calibrate", editor, RIDGES)
    check_overrides(editor, overrides or {})
    torch.set_num_threads(threads)
    held_out = _held_out(dataset, budget.requests)
    loaded = load_model(model, dtype=dtype, device=pick_device(device))
    room = room_of_model(loaded, sampled=ContextSettings().model_dump(mode="json"))
    if room is not None:
        refuse_long(held_out, room, source=dataset.source)
    known = _checked_moments(moments, loaded)
    bench = Bench(
        loaded, resolve_method(editor), dict(overrides or {}), known, sample_contexts(loaded, ContextSettings(), 0)
    )
    trials = _search(bench, held_out, budget, on_trial, on_step)
    best = max((trial for trial in trials if trial.held_out), key=lambda trial: trial.rank).candidate
    made_of = {
        "model_digest": loaded.base_digest,
        "dtype": dtype,
        "data_set": dataset.name,
        "requests_digest": requests_digest(held_out),
        "moments_digest": known.digest,
    }
    text = calibrated_preset(editor, bench.hyperparameters(best), trials, made_of=made_of)
    with output_errors(out):
        out.write_text(text, encoding="utf-8")
    return Calibration(best, tuple(trials), text)


def _candidates(model: EditableModel) -> list[int]:
    return sorted({layer for span in candidate_layers(len(model.layers)) for layer in span})


def _checked_moments(path: Path, model: EditableModel) -> SecondMoments:
    known = read_moments(path)
    sites = model.open_sites(_candidates(model))
    check_moments(known, sites, where=str(path), model_digest=model.base_digest)
    return known


def _held_out(source: DatasetSpec, count: int) -> list[EditRequest]:
    """Return the last requests of a data set, one per subject, so that none writes over another."""
    found = {request.subject: request for record in read_dataset(source).records for request in record.requests}
    chosen = list(found.values())[-count:]
    if len(chosen) < count:
        raise InputError(
            f"the data set has {len(chosen)} subjects, the calibration needs {count} requests",
            where=source.source,
            remedy=f"set --requests to at most {len(chosen)}",
        )
    return chosen


def _search(
    bench: Bench,
    requests: Sequence[EditRequest],
    budget: Budget,
    on_trial: Callable[[int, Trial], None],
    on_step: Callable[[int, Position], None],
) -> list[Trial]:
    """Run the trials; half of the requests search, the other half decides."""
    ends = time.monotonic() + 60 * budget.minutes
    half = len(requests) // 2
    trials: list[Trial] = []
    progress = bench.model.progress
    progress.listen(lambda: on_step(len(trials) + 1, progress.position) if progress.position is not None else None)

    def enough() -> bool:
        return time.monotonic() > ends or len(trials) >= budget.trials

    for trial in search(bench, requests[:half], requests[half:], enough=enough):
        trials.append(trial)
        on_trial(len(trials), trial)
    return trials


def trial_line(number: int, trial: Trial) -> str:
    """Return a trial as one line below TRIALS_HEAD."""
    chosen = trial.candidate
    span = f"{chosen.layers[0]}-{chosen.layers[-1]}" if len(chosen.layers) > 1 else str(chosen.layers[0])
    values = (trial.efficacy, trial.generalization, trial.specificity, trial.score, trial.he_drift)
    cells = ["collapsed" if value is None else f"{value:.3f}" for value in values]
    text = f"{number:>5}  {span:<14} {chosen.v_lr:>5g} {chosen.clamp_norm_factor:>5g} {chosen.ridge:>8g}  "
    text += " ".join(f"{cell:>8}" for cell in cells) + f"  {trial.seconds:>7.1f}"
    return text + ("  held out" if trial.held_out else "")
