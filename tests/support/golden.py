"""Recorded figures of the released implementations (tests/data/README.md says what they are)."""

import json
from typing import Any

import numpy as np
import torch
from repository import DATA

from sphere_core.datasets.counterfact import load_counterfact
from sphere_core.hyperparameters import Hyperparameters, build_hyperparameters
from sphere_core.locate.templates import read_contexts
from sphere_core.models import EditableModel, load_model

FOLDER = DATA / "golden"
MODEL = DATA / "tiny-llama"
METHODS = {
    "memit": "MEMIT",
    "alphaedit": "AlphaEdit",
    "memit+sphere": "MEMIT_SPHERE",
    "alphaedit+sphere": "AlphaEdit_SPHERE",
}
BATCH = 8

REQUESTS = load_counterfact(FOLDER / "requests.json")
CONTEXTS = read_contexts(FOLDER / "context_templates.json")


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def released_hyperparameters(method: str) -> dict[str, Any]:
    """The recorded JSON of a method, with SPHERE's two numbers under the project's names."""
    entry = json.loads((FOLDER / "hparams.json").read_text())["llama"][METHODS[method]]
    values = dict(entry["hparams"])
    ratio, strength = entry["beta_alpha"]
    return {**values, "energy_ratio": ratio, "strength": strength} if ratio else values


def hyperparameters(values: dict[str, Any]) -> Hyperparameters:
    known = {name: value for name, value in values.items() if name in Hyperparameters.model_fields}
    return build_hyperparameters(known, where="golden")


def model() -> EditableModel:
    return load_model(str(MODEL), dtype="float32", device="cpu")


def relative_error(found: torch.Tensor | np.ndarray, expected: np.ndarray) -> float:
    difference = np.asarray(found, dtype=np.float64) - expected.astype(np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(expected.astype(np.float64)))
