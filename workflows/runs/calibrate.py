"""A preset for a model that has none: the search on held-out requests, and the file that it gives."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.code_version import code_version
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.user_files import replace_text
from sphere_core.foundation.work_progress import Position
from sphere_core.locate.contexts import sample_contexts
from sphere_core.locate.templates import ContextSettings
from sphere_core.models import EditableModel, load_model
from sphere_core.models.devices import pick_device
from sphere_core.models.outline import describe_model
from sphere_core.models.source import resolve_model
from sphere_core.moments.files import read_moments
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.numerics.tensor_digest import tensors_digest
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.requests import EditRequest, requests_digest
from sphere_core.streams.lengths import refuse_long
from sphere_core.streams.model_room import room_of_model
from workflows.runs.calibrated_preset import Evidence, calibrated_preset
from workflows.runs.calibration_bench import OBJECTIVES, RIDGES, Bench, Candidate, Trial, split_overrides
from workflows.runs.calibration_log import TrialLog
from workflows.runs.calibration_search import Limits, Search, default_spans, parse_spans

__all__ = ["Budget", "Calibration", "Listener", "calibrate_preset", "layers_to_search"]

Span = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a calibration may cost: held-out requests (half search, half decide), minutes, trials."""

    requests: int
    minutes: float
    trials: int


@dataclass(frozen=True)
class Calibration:
    """By editor the candidate that was decided on, all trials in the order they were run, the values that were not
    tried, and the preset as YAML."""

    best: Mapping[str, Candidate]
    trials: tuple[Trial, ...]
    not_searched: Mapping[str, Any]
    preset: str


class Listener:
    """What hears of a calibration while it runs; every method may be left as it is."""

    def note(self, text: str) -> None:
        """Hear what the user should know, once all inputs are checked."""

    def trial(self, number: int, trial: Trial, *, logged: bool) -> None:
        """Hear of a trial as it ends; `logged`: it was in the log already."""

    def step(self, number: int, position: Position) -> None:
        """Hear how far the trial under way is."""


def layers_to_search(*, model: str, spans: str | None = None, plugins: Plugins = NO_PLUGINS) -> list[int]:
    """Return the layers that the default or the given spans hold: second moments of these are enough."""
    layers = len(describe_model(resolve_model(model), plugins=plugins).sites)
    return sorted({layer for span in _spans(spans, layers) for layer in span})


def calibrate_preset(
    *,
    model: str,
    dtype: str,
    dataset: DatasetSpec,
    editors: Sequence[str],
    moments: Path,
    budget: Budget,
    out: Path,
    log: Path | None = None,
    objective: str = "agreement",
    spans: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    threads: int = 1,
    device: str = "auto",
    plugins: Plugins = NO_PLUGINS,
    listener: Listener | None = None,
) -> Calibration:
    """Search layers, learning rate, clamp and ridge on the last requests of a data set and write the preset `out`.

    Trials are appended to `log` (by default `out` with the ending .jsonl) as they end; a trial that is there is not
    repeated, so that a second call resumes, and more minutes continue. Spans without second moments are left out and
    said. `plugins` may bring the data set or the model's family. The preset lists the held-out facts; streams leave
    them out, whatever their order. Raises InputError before the first trial for an editor that cannot be calibrated, an
    override of what is searched, too few requests, second moments that cover no span, or a log that is not one; then no
    preset is written.
    """
    started = time.monotonic()
    overrides, listener = dict(overrides or {}), listener or Listener()
    fixed = _checked(editors, objective, overrides)
    _refuse_name(out)
    trial_log = TrialLog(log or out.with_suffix(".jsonl"))
    trial_log.check()
    torch.set_num_threads(threads)
    held_out = _held_out(dataset, budget.requests, plugins)
    loaded = load_model(model, dtype=dtype, device=pick_device(device), plugins=plugins)
    room = room_of_model(loaded, sampled=ContextSettings())
    if room is not None:
        refuse_long(held_out, room, source=dataset.source)
    wanted = _spans(spans, len(loaded.layers))
    known, covered = _moments_of(moments, loaded, wanted)
    bench = Bench(loaded, fixed, known, sample_contexts(loaded, ContextSettings(), 0))
    half = len(held_out) // 2
    made_of = {"model_digest": loaded.base_digest, "dtype": dtype, "threads": threads, "release": code_version()}
    limits = Limits(60 * budget.minutes, budget.trials)
    with trial_log as kept:
        runner = _Runner(bench, held_out[:half], held_out[half:], made_of, kept, listener, started)
        others = [trial for key, trial in kept.items() if trial.editor in editors and runner.key_of(trial) == key]
        search = Search(tuple(editors), covered, limits, objective, runner.run, others)
        for line in _notes(objective, held_out, wanted, covered, moments, kept):
            listener.note(line)
        for _ in search.all_trials():
            pass
        left = {**search.not_searched(), **_left_spans(wanted, covered)}
        evidence = Evidence(
            made_of={**made_of, "requests_digest": requests_digest(held_out), "moments_digest": known.digest},
            objective=objective,
            requests=held_out,
            data_set=dataset.name,
            trials=[*search.trials, *(trial for trial in others if trial not in search.trials)],
            not_searched=left,
        )
        values = {editor: bench.hyperparameters(editor, best) for editor, best in search.best.items()}
        text = calibrated_preset(values, overrides, loaded, evidence)
        replace_text(out, text)
    return Calibration(search.best, tuple(search.trials), left, text)


class _Runner:
    """Runs a trial, or takes it from the log."""

    def __init__(
        self,
        bench: Bench,
        searching: Sequence[EditRequest],
        deciding: Sequence[EditRequest],
        made_of: Mapping[str, Any],
        log: TrialLog,
        listener: Listener,
        started: float,
    ) -> None:
        self._bench, self._requests, self._made_of, self._log = bench, (searching, deciding), made_of, log
        self._listener, self._ended, self._count = listener, started, 0
        self._digests = [requests_digest(requests) for requests in self._requests]
        self._moments = {layer: tensors_digest({"moment": moment}) for layer, moment in bench.moments.by_layer.items()}
        progress = bench.model.progress
        progress.listen(lambda: listener.step(self._count + 1, progress.position) if progress.position else None)

    def run(self, editor: str, candidate: Candidate, held_out: bool) -> Trial:
        """Return the trial of a candidate, and log it."""
        key = self._key(editor, candidate, held_out)
        trial = found = self._log.find(key)
        if trial is None:
            before = time.monotonic() - self._ended
            trial = self._bench.trial(editor, candidate, self._requests[held_out], held_out=held_out, before=before)
            self._log.add(key, trial)
            self._ended = time.monotonic()
        self._count += 1
        self._listener.trial(self._count, trial, logged=found is not None)
        return trial

    def key_of(self, trial: Trial) -> str:
        """Return the key that a trial would have here."""
        return self._key(trial.editor, trial.candidate, trial.held_out)

    def _key(self, editor: str, candidate: Candidate, held_out: bool) -> str:
        made_of = {
            **self._made_of,
            "editor": editor,
            "hyperparameters": self._bench.hyperparameters(editor, candidate).identity(),
            "requests": self._digests[held_out],
            "moments": {str(layer): self._moments.get(layer) for layer in candidate.layers},
        }
        return fingerprint(made_of)[:16]


def _checked(editors: Sequence[str], objective: str, overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for editor in editors:
        if editor not in RIDGES:
            raise unknown_name("editor to calibrate", editor, RIDGES, where="--editor")
    if not editors or len(set(editors)) < len(editors):
        raise InputError("editors are named once each", where="--editor", remedy=f"choose among {', '.join(RIDGES)}")
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES, where="--objective")
    return split_overrides(editors, overrides)


def _spans(text: str | None, layers: int) -> list[Span]:
    return default_spans(layers) if text is None else parse_spans(text, layers)


def _moments_of(path: Path, model: EditableModel, spans: Sequence[Span]) -> tuple[SecondMoments, list[Span]]:
    """Return the moments of the layers that are tried, and the spans that they cover."""
    wanted = {layer for span in spans for layer in span}
    known = read_moments(path, layers=lambda layer: layer in wanted)
    covered = [span for span in spans if set(span) <= {*known.layers}]
    if not covered:
        every = ",".join(map(str, sorted(wanted)))
        raise InputError(
            f"second moments of no span that is tried ({_named(spans)})",
            where=str(path),
            remedy=f"build them: sphere moments build MODEL --layers {every} --corpus ...; or give --spans",
        )
    sites = model.open_sites(sorted({layer for span in covered for layer in span}))
    check_moments(known, sites, where=str(path), model_digest=model.base_digest)
    return known, covered


def _held_out(source: DatasetSpec, count: int, plugins: Plugins) -> list[EditRequest]:
    """Return the last requests of a data set, one per subject, so that none writes over another."""
    found = {
        request.subject: request for record in read_dataset(source, plugins).records for request in record.requests
    }
    chosen = list(found.values())[-count:]
    if len(chosen) < count:
        raise InputError(
            f"the data set has {len(chosen)} subjects, the calibration needs {count} requests",
            where=source.source,
            remedy=f"set --requests to at most {len(chosen)}",
        )
    return chosen


def _notes(
    objective: str,
    held_out: Sequence[EditRequest],
    wanted: Sequence[Span],
    covered: Sequence[Span],
    moments: Path,
    log: TrialLog,
) -> Iterator[str]:
    half = len(held_out) // 2
    yield f"objective {objective}: the harmonic mean of {', '.join(OBJECTIVES[objective])}"
    yield f"held out: {len(held_out)} requests, of which {half} search and {len(held_out) - half} decide"
    missing = [span for span in wanted if span not in covered]
    if missing:
        yield f"layers {_named(missing)} are not tried: {moments} has no second moments of them"
    yield f"log: {log.path}" + (f", which holds {len(log)} trials: those of this calibration count" if len(log) else "")


def _left_spans(wanted: Sequence[Span], covered: Sequence[Span]) -> dict[str, list[list[int]]]:
    missing = [list(span) for span in wanted if span not in covered]
    return {"layers_without_moments": missing} if missing else {}


def _named(spans: Sequence[Span]) -> str:
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _refuse_name(out: Path) -> None:
    """Raise InputError before the first trial if the preset cannot be written where it is wanted."""
    if out.suffix not in (".yaml", ".yml"):
        raise InputError("a preset is a YAML file", where=str(out), remedy="give --out a name that ends in .yaml")
    if out.is_dir():
        raise InputError("the preset's name is that of a folder", where=str(out), remedy="give another --out")
