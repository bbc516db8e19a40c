"""A trial of a calibration: one batch of held-out requests, written into the unedited model and scored."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from evaluators.statistics import harmonic_mean
from sphere_core.checkpoints import EditorState
from sphere_core.costs import place
from sphere_core.editors.closed_form.loop import ClosedFormEditor
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import Hyperparameters, build_hyperparameters, fields_of
from sphere_core.locate.batch import LocatedBatch
from sphere_core.locate.targets import Targets, TargetSettings, optimise_targets
from sphere_core.locate.templates import Contexts
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.null_space import null_space
from sphere_core.moments.record import SecondMoments
from sphere_core.numerics.linalg import Subspace
from sphere_core.requests import EditRequest, requests_digest

__all__ = ["OBJECTIVES", "RIDGES", "Bench", "Candidate", "Trial", "split_overrides"]

# The parts of a score, as METRIC/PROTOCOL of edit quality; a score is their harmonic mean.
OBJECTIVES: Mapping[str, tuple[str, str, str]] = {
    "agreement": ("efficacy/argmax", "generalization/argmax", "agreement/argmax"),
    "probability": ("efficacy/probability", "generalization/probability", "specificity/probability"),
    "argmax": ("efficacy/argmax", "generalization/argmax", "specificity/argmax"),
}
_MEASURES = tuple(dict.fromkeys(part for parts in OBJECTIVES.values() for part in parts))
# The hyperparameter that plays the ridge's part.
RIDGES: Mapping[str, str] = {"memit": "mom2_update_weight", "alphaedit": "L2"}
# Values of SPHERE's released file for Llama-3-8B.
_SHARED = {"v_num_grad_steps": 25, "v_weight_decay": 0.5, "kl_factor": 0.0625}
_OWN: Mapping[str, Mapping[str, Any]] = {"memit": {}, "alphaedit": {"nullspace_threshold": 0.02}}


@dataclass(frozen=True)
class Candidate:
    """One setting of what is searched."""

    layers: tuple[int, ...]
    v_lr: float
    clamp_norm_factor: float
    ridge: float

    @property
    def targets(self) -> tuple[int, float, float]:
        """What the optimised targets depend on."""
        return self.layers[-1], self.v_lr, self.clamp_norm_factor

    def decades_to(self, other: "Candidate") -> tuple[float, float]:
        """Return how far the ridge of another candidate is, and the ridge: of two as far, the smaller is nearer."""
        return round(abs(math.log10(self.ridge / other.ridge)), 6), other.ridge


@dataclass(frozen=True)
class Trial:
    """A candidate's measures after one batch, by METRIC/PROTOCOL: shares, None if the model collapsed.

    `held_out`: the requests took no part in the search. `seconds` it took, after `before` of this process's time that
    no trial had taken: loading, for the first.
    """

    editor: str
    candidate: Candidate
    measures: Mapping[str, float | None]
    he_drift: float | None
    seconds: float
    before: float = 0.0
    held_out: bool = False

    def score(self, objective: str) -> float | None:
        """Return the harmonic mean of an objective's parts for which there are probes; None if the model collapsed."""
        parts = self.parts(objective)
        known = [part for part in parts if part is not None]
        return float(harmonic_mean(np.array(known))) if known and len(known) == len(parts) else None

    def parts(self, objective: str) -> list[float | None]:
        """Return the measures of an objective; one that the data set has no probes for is left out."""
        return [self.measures[name] for name in OBJECTIVES[objective] if name in self.measures]

    def rank(self, objective: str) -> tuple[float, float, float]:
        """What trials are compared by: the score, then the mean of its parts, then the smaller drift of HE."""
        score = self.score(objective)
        if score is None:
            return -1.0, -1.0, 0.0
        drift = math.inf if self.he_drift is None else abs(self.he_drift)
        parts = [part for part in self.parts(objective) if part is not None]
        return score, sum(parts) / len(parts), -drift

    def record(self) -> dict[str, Any]:
        """Return the trial as plain data, for the log and for `evidence`."""
        chosen = self.candidate
        return {
            "editor": self.editor,
            "layers": list(chosen.layers),
            "v_lr": chosen.v_lr,
            "clamp_norm_factor": chosen.clamp_norm_factor,
            "ridge": chosen.ridge,
            "held_out": self.held_out,
            **self.measures,
            "he_drift": self.he_drift,
            "seconds": self.seconds,
            "before": self.before,
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Trial":
        """Return the trial of a record; raises KeyError, TypeError or ValueError for another mapping."""
        candidate = Candidate(
            tuple(int(layer) for layer in record["layers"]),
            float(record["v_lr"]),
            float(record["clamp_norm_factor"]),
            float(record["ridge"]),
        )
        return cls(
            str(record["editor"]),
            candidate,
            {name: record[name] for name in _MEASURES if name in record},
            record["he_drift"],
            float(record["seconds"]),
            float(record["before"]),
            bool(record["held_out"]),
        )


@dataclass(frozen=True)
class Bench:
    """What every trial has in common: the model, moments, contexts, and by editor the values that are not searched.

    Targets and null spaces are kept: of trials that differ in the ridge or in the editor alone they are the same, bit
    for bit, since every trial starts from the unedited model.
    """

    model: EditableModel
    fixed: Mapping[str, Mapping[str, Any]]
    moments: SecondMoments
    contexts: Contexts
    quality: EditQuality = field(default_factory=lambda: EditQuality(EditQualitySettings()))
    energy: Geometry = field(
        default_factory=lambda: Geometry(GeometrySettings(previous=False, bound=False, moments=False, spectra=False))
    )
    _targets: dict[tuple[TargetSettings, str], Targets] = field(default_factory=dict)
    _spaces: dict[int, Subspace] = field(default_factory=dict)

    def hyperparameters(self, editor: str, candidate: Candidate) -> Hyperparameters:
        """Return the whole set of one candidate."""
        return _hyperparameters(editor, candidate, self.fixed[editor], where="calibration")

    def trial(
        self, editor: str, candidate: Candidate, requests: Sequence[EditRequest], *, held_out: bool, before: float
    ) -> Trial:
        """Write one batch, score it and give the model back as it was."""
        started = time.monotonic()
        method, hyperparameters = resolve_method(editor), self.hyperparameters(editor, candidate)
        count = len(requests)
        placement = place(
            self.model,
            method,
            hyperparameters,
            requests,
            batch_size=count,
            contexts=self.contexts,
            moments=self.moments,
        )
        moments = self._with_null_spaces(hyperparameters, placement.decomposes_on)
        built = method.build(hyperparameters, moments, placement)
        if isinstance(built, ClosedFormEditor):
            built = replace(built, find_targets=self._find_targets)
        try:
            built.edit(self.model, tuple(requests), self.contexts, EditorState())
            subject = Subject(self.model, tuple(requests), count)
            rows = self.quality.score(subject).rows
            drift = next(
                row.value for row in self.energy.score(subject).rows if row.metric == "he_drift" and row.site is None
            )
        finally:
            self.model.restore_base()
        measured = {f"{row.metric}/{row.protocol}": row.value for row in rows}
        measures = {name: measured[name] for name in _MEASURES if name in measured}
        seconds = round(time.monotonic() - started, 2)
        return Trial(editor, candidate, measures, drift, seconds, round(before, 2), held_out)

    def _find_targets(self, model: EditableModel, batch: LocatedBatch, settings: TargetSettings) -> Targets:
        key = settings, requests_digest(batch.requests)
        if key not in self._targets:
            self._targets[key] = optimise_targets(model, batch, settings)
        return self._targets[key]

    def _with_null_spaces(self, hyperparameters: Hyperparameters, device: torch.device | None) -> SecondMoments:
        """Return the moments, with the null spaces of the edited layers if a rule is given for them."""
        rule = {"threshold": hyperparameters.nullspace_threshold, "share": hyperparameters.nullspace_share}
        if not any(value is not None for value in rule.values()):
            return self.moments
        for layer in hyperparameters.layers:
            if layer not in self._spaces:
                imported = self.moments.null_spaces.get(layer)
                self._spaces[layer] = imported or null_space(self.moments.by_layer[layer], **rule, device=device)
        return replace(self.moments, null_spaces=dict(self._spaces))


def split_overrides(editors: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by editor the values that are not searched, a user's overrides on top of the released ones.

    Raises InputError for an override of what is searched, one that no editor takes, or a value that is not valid.
    """
    searched = (*(RIDGES[editor] for editor in editors), "layers", "v_lr", "clamp_norm_factor")
    for name in overrides:
        if name in searched:
            remedy = "leave it out, and set it in the sweep file"
            raise InputError(f"'{name}' is what the calibration searches", where="--set", remedy=remedy)
        if name in Hyperparameters.model_fields and not any(name in fields_of([editor]) for editor in editors):
            what = f"'{name}' is not a hyperparameter of {' or '.join(editors)}"
            raise InputError(what, where="--set", remedy="'sphere methods EDITOR' shows those of an editor")
    taken = frozenset[str]().union(*(fields_of([editor]) for editor in editors))
    fixed = {}
    for editor in editors:
        others = taken - fields_of([editor])
        own = {name: value for name, value in overrides.items() if name not in others}
        kept = {**_SHARED, **_OWN[editor]}
        if "nullspace_share" in own:
            kept.pop("nullspace_threshold", None)
        fixed[editor] = {**kept, **own}
        _hyperparameters(editor, Candidate((0,), 0.5, 0.75, 1.0), fixed[editor], where="--set")
    return fixed


def _hyperparameters(editor: str, candidate: Candidate, fixed: Mapping[str, Any], *, where: str) -> Hyperparameters:
    values = {
        **fixed,
        "layers": candidate.layers,
        "v_lr": candidate.v_lr,
        "clamp_norm_factor": candidate.clamp_norm_factor,
        RIDGES[editor]: candidate.ridge,
    }
    return build_hyperparameters(values, where=where, rows=(editor,))
