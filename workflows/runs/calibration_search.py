"""Calibration: layers, learning rate, clamp and ridge for a model without a preset, on held-out requests.

Coordinate search: one hyperparameter at a time takes each of its candidates while the others keep the best so far. A
trial writes one batch of held-out requests into the unedited model and scores it; the best trials are held against
each other on requests that took no part.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from evaluators.statistics import harmonic_mean
from sphere_core.checkpoints import EditorState
from sphere_core.costs import place
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import Hyperparameters, build_hyperparameters
from sphere_core.locate.templates import Contexts
from sphere_core.methods import Method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest

__all__ = ["RIDGES", "Candidate", "Trial", "candidate_layers", "check_overrides", "search"]

# The hyperparameter that plays the ridge's part, and what is tried for it. Published values span these decades.
RIDGES: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "memit": ("mom2_update_weight", (15000.0, 1500.0, 150.0, 150000.0, 15.0)),
    "alphaedit": ("L2", (10.0, 1.0, 0.1, 100.0)),
}
_RATES = (0.5, 0.1, 1.0)
_CLAMPS = (0.75, 4.0, 1.5)
# Values of SPHERE's released file for Llama-3-8B.
_SHARED = {"v_num_grad_steps": 25, "v_weight_decay": 0.5, "kl_factor": 0.0625}
_FINALISTS = 2


@dataclass(frozen=True)
class Candidate:
    """One setting of what is searched."""

    layers: tuple[int, ...]
    v_lr: float
    clamp_norm_factor: float
    ridge: float


@dataclass(frozen=True)
class Trial:
    """A candidate's scores after one batch: shares under the argmax protocol, None if the model collapsed.

    `held_out` tells that the requests took no part in the search.
    """

    candidate: Candidate
    efficacy: float | None
    generalization: float | None
    specificity: float | None
    score: float | None
    he_drift: float | None
    seconds: float
    held_out: bool = False

    @property
    def rank(self) -> tuple[float, float]:
        """What trials are compared by: the harmonic score, then the smaller drift of hyperspherical energy."""
        drift = math.inf if self.he_drift is None else abs(self.he_drift)
        return (-1.0 if self.score is None else self.score, -drift)

    def record(self) -> dict[str, Any]:
        """Return the trial as plain data."""
        values = asdict(self)
        candidate = values.pop("candidate")
        return {**candidate, "layers": list(self.candidate.layers), **values}


def candidate_layers(layers: int) -> list[tuple[int, ...]]:
    """Return the spans of consecutive layers that are tried: a sixth of the depth, ending in its first two thirds.

    Published choices lie there: layers 4-8 of 32 (Llama-3-8B), 3-8 of 28 (GPT-J), 13-17 of 48 (GPT-2-XL).
    """
    width = max(1, min(5, layers // 6))
    last = max(width, math.ceil(2 * layers / 3))
    step = max(1, width // 2)
    spans = [tuple(range(start, start + width)) for start in range(0, last - width + 1, step)]
    if layers <= 6:
        spans += [tuple(range(width + 1)), tuple(range(layers - 1))]
    return [span for span in dict.fromkeys(spans) if span and span[-1] < layers]


@dataclass(frozen=True)
class Bench:
    """What every trial has in common: the model, the method and its other values, moments, contexts, requests."""

    model: EditableModel
    method: Method
    overrides: Mapping[str, Any]
    moments: SecondMoments | None
    contexts: Contexts
    energy: Geometry = field(
        default_factory=lambda: Geometry(GeometrySettings(previous=False, bound=False, moments=False, spectra=False))
    )

    def hyperparameters(self, candidate: Candidate) -> Hyperparameters:
        """Return the whole set of one candidate."""
        return _hyperparameters(self.method.editor_name, candidate, self.overrides, where="calibration")

    def trial(self, candidate: Candidate, requests: Sequence[EditRequest], *, held_out: bool) -> Trial:
        """Write one batch, score it and give the model back as it was."""
        started = time.monotonic()
        hyperparameters = self.hyperparameters(candidate)
        placement = place(
            self.model,
            self.method,
            hyperparameters,
            requests,
            batch_size=len(requests),
            contexts=self.contexts,
            moments=self.moments,
        )
        editor = self.method.build(hyperparameters, self.moments, placement)
        try:
            editor.edit(self.model, tuple(requests), self.contexts, EditorState())
            subject = Subject(self.model, tuple(requests), len(requests))
            rows = EditQuality(EditQualitySettings(agreement=False)).score(subject).rows
            drift = next(
                row.value for row in self.energy.score(subject).rows if row.metric == "he_drift" and row.site is None
            )
        finally:
            self.model.restore_base()
        value = {row.metric: row.value for row in rows if row.protocol == "argmax"}
        seconds = round(time.monotonic() - started, 2)
        efficacy, generalization, specificity = map(value.get, ("efficacy", "generalization", "specificity"))
        score = _score((efficacy, generalization, specificity))
        return Trial(candidate, efficacy, generalization, specificity, score, drift, seconds, held_out)


def check_overrides(editor: str, overrides: Mapping[str, Any]) -> None:
    """Raise InputError for an override of a hyperparameter that is searched, is unknown, or has a wrong value."""
    searched = (RIDGES[editor][0], *(name for name in Candidate.__dataclass_fields__ if name != "ridge"))
    for name in overrides:
        if name in searched:
            remedy = "leave it out, and set it in the sweep file"
            raise InputError(f"'{name}' is what the calibration searches", where="--set", remedy=remedy)
    _hyperparameters(editor, Candidate((0,), _RATES[0], _CLAMPS[0], RIDGES[editor][1][0]), overrides, where="--set")


def _hyperparameters(editor: str, candidate: Candidate, overrides: Mapping[str, Any], *, where: str) -> Hyperparameters:
    ridge, _ = RIDGES[editor]
    values = {
        **_SHARED,
        "layers": candidate.layers,
        "v_lr": candidate.v_lr,
        "clamp_norm_factor": candidate.clamp_norm_factor,
        ridge: candidate.ridge,
        **overrides,
    }
    return build_hyperparameters(values, where=where)


def search(
    bench: Bench,
    requests: Sequence[EditRequest],
    confirmation: Sequence[EditRequest],
    *,
    enough: Callable[[], bool],
) -> Iterator[Trial]:
    """Yield trials: the search on `requests` until `enough` says so, then the finalists on `confirmation`.

    The last trials, held out, decide; the first trial of all is the middle of what is published.
    """
    spans = candidate_layers(len(bench.model.layers))
    _, ridges = RIDGES[bench.method.editor_name]
    best = Candidate(spans[len(spans) // 3], _RATES[0], _CLAMPS[0], ridges[0])
    axes: list[tuple[str, Sequence[Any]]] = [
        ("ridge", ridges),
        ("layers", spans),
        ("v_lr", _RATES),
        ("clamp_norm_factor", _CLAMPS),
        ("ridge", ridges),
    ]
    trials = {best: bench.trial(best, requests, held_out=False)}
    yield trials[best]
    for name, values in axes:
        for value in values:
            candidate = replace(best, **{name: value})
            if candidate in trials or enough():
                continue
            trials[candidate] = bench.trial(candidate, requests, held_out=False)
            yield trials[candidate]
        best = max(trials.values(), key=lambda trial: trial.rank).candidate
    finalists = sorted(trials.values(), key=lambda trial: trial.rank, reverse=True)
    for trial in itertools.islice(finalists, _FINALISTS):
        yield bench.trial(trial.candidate, confirmation, held_out=True)


def _score(parts: Sequence[float | None]) -> float | None:
    """Return the harmonic mean; None if a part is missing."""
    known = [part for part in parts if part is not None]
    return float(harmonic_mean(np.array(known))) if known and len(known) == len(parts) else None
