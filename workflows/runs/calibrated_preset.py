"""A calibrated preset: a YAML file of the shipped form, with the trials that speak for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sphere_core.hyperparameters import Hyperparameters, preset_sources
from workflows.runs.calibration_search import RIDGES, Trial

__all__ = ["calibrated_preset"]

# Regularizers act on relative quantities; their released values are the same for every model that has a file.
_REGULARIZERS = ("sphere", "revive", "rect")
_DONOR = "llama3-8b"


def calibrated_preset(
    editor: str, values: Hyperparameters, trials: Sequence[Trial], *, made_of: Mapping[str, Any]
) -> str:
    """Return the YAML text of a preset with one editor; every value says where it comes from, `evidence` lists trials.

    The decided trial is the best of those that were held out. `made_of` says of which model, requests and moments.
    """
    ridge, _ = RIDGES[editor]
    searched = ("layers", "v_lr", "clamp_norm_factor", ridge)
    plain = values.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    entries = {name: {"value": value, "source": "[C]" if name in searched else "[R]"} for name, value in plain.items()}
    own = {name: entry for name, entry in entries.items() if name == ridge or name.startswith("nullspace")}
    shared = {name: entry for name, entry in entries.items() if name not in own}
    for name, entry in own.items():
        entry["source"] = "[C]" if name == ridge else "[U]"
    regularizers = {
        name: {
            key: {"value": value, "source": source}
            for key, (value, source) in preset_sources(_DONOR, "memit", (name,)).items()
            if key not in preset_sources(_DONOR, "memit", ())
        }
        for name in _REGULARIZERS
    }
    document = {
        "sources": {
            "C": "calibrated, see evidence",
            "R": "hyperparameter file released with SPHERE (6e8978a), Llama-3-8B",
            "U": "given by the user of the calibration",
        },
        "shared": shared,
        "editors": {editor: own},
        "regularizers": regularizers,
        "evidence": {**made_of, "trials": [trial.record() for trial in trials]},
    }
    return yaml.safe_dump(document, sort_keys=False, width=120, default_flow_style=None)
