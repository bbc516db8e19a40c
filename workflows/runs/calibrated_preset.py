"""A calibrated preset: a YAML file of the shipped form, with the trials that speak for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sphere_core.hyperparameters import Hyperparameters, preset_sections
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, fact_key
from workflows.runs.calibration_bench import OBJECTIVES, RIDGES, Trial

__all__ = ["Evidence", "calibrated_preset"]

# Regularizers act on relative quantities; their released values are the same for every model that has a file.
_REGULARIZERS = ("sphere", "revive", "rect")
_DONOR = "llama3-8b"
_OWN = frozenset([*RIDGES.values(), "nullspace_threshold", "nullspace_share"])
_SEARCHED = ("layers", "v_lr", "clamp_norm_factor", *RIDGES.values())


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a preset rests on: the model, the held-out requests, the objective, all trials, and what was not tried."""

    made_of: Mapping[str, Any]
    objective: str
    requests: Sequence[EditRequest]
    data_set: str
    trials: Sequence[Trial]
    not_searched: Mapping[str, Any]


def calibrated_preset(
    values: Mapping[str, Hyperparameters], overrides: Mapping[str, Any], model: EditableModel, evidence: Evidence
) -> str:
    """Return the YAML text of a preset of one or several editors, `values` by editor; every value has a source.

    Editors share all but their ridge and the rule of their null space. The values of regularizers are those of SPHERE's
    released file, with those of an editor combined with one. `held_out` lists the facts that streams leave out: the
    preset was chosen on them.
    """
    donor = preset_sections(_DONOR)
    plain = {
        editor: found.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        for editor, found in values.items()
    }
    first = next(iter(plain.values()))
    shared = {name: value for name, value in first.items() if name not in _OWN}
    names = [f"{editor}+{regularizer}" for editor in plain for regularizer in _REGULARIZERS]
    combinations = donor.get("combinations") or {}
    site = model.open_sites([next(iter(values.values())).layers[0]])[0]
    document = {
        "made_for": {
            "family": model.family.name,
            "layers": len(model.layers),
            "d_out": site.d_out,
            "d_in": site.d_in,
        },
        "sources": {
            **donor["sources"],
            "C": "calibrated, see evidence",
            "R": "hyperparameter file released with SPHERE (6e8978a), Llama-3-8B",
            "U": "given by the user of the calibration",
        },
        "shared": _entries(shared, overrides),
        "editors": {
            editor: _entries({name: value for name, value in found.items() if name in _OWN}, overrides)
            for editor, found in plain.items()
        },
        "regularizers": {name: dict(donor["regularizers"][name]) for name in _REGULARIZERS},
        "combinations": {name: dict(combinations[name]) for name in names if name in combinations},
        "held_out": {"data_set": evidence.data_set, "facts": sorted(fact_key(one) for one in evidence.requests)},
        "evidence": {
            **evidence.made_of,
            "objective": f"{evidence.objective}: harmonic mean of {', '.join(OBJECTIVES[evidence.objective])}",
            "not_searched": dict(evidence.not_searched),
            "trials": [{**trial.record(), "score": trial.score(evidence.objective)} for trial in evidence.trials],
        },
    }
    return yaml.safe_dump(document, sort_keys=False, width=120, default_flow_style=None)


def _entries(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {"value": value, "source": "[C]" if name in _SEARCHED else "[U]" if name in overrides else "[R]"}
        for name, value in values.items()
    }
