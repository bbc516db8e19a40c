"""Small sweep files on the embedded model, and comparing what two runs left on disk."""

import copy
from pathlib import Path
from typing import Any

import yaml

from sphere_core.foundation.storage import Storage

TINY: dict[str, Any] = {
    "name": "tiny",
    "models": ["factworld"],
    "streams": [{"dataset": "factworld", "edits": 6, "order": "shuffled"}],
    "methods": ["memit", "alphaedit+sphere"],
    "seeds": [0, 1],
    "batch_size": 2,
    "checkpoint_every": 4,
    "moments": {"corpus": "factworld", "sentences": 300},
    "contexts": {"seeds": ["The"], "length": 6, "top_k": 5},
    "evaluators": {"edit_quality": {}, "geometry": {}},
    "resources": {"threads": 1, "replica": {"num_cpus": 1}, "evaluator": {"replicas": 0}},
}

# Fewer steps per target, for sweeps that run many times and are compared with themselves only.
FEWER_STEPS = {"v_num_grad_steps": 8}


def with_fewer_steps(*methods: str) -> list[dict[str, Any]]:
    """Return entries of methods whose targets take a third of the preset's steps at most."""
    return [{"name": method, "hyperparameters": dict(FEWER_STEPS)} for method in methods]


def tiny(**changes: Any) -> dict[str, Any]:
    """Return the settings of the tiny sweep with top-level keys replaced (None: left out)."""
    settings = {**copy.deepcopy(TINY), **changes}
    return {key: value for key, value in settings.items() if value is not None}


def write_sweep(folder: Path, settings: dict[str, Any]) -> Path:
    """Write a sweep file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def results_of(root: Path | str) -> dict[str, bytes]:
    """Return the bytes of all checkpoints, kept keys, rows and what is behind them below a root, a folder or a URL."""
    storage = Storage(root)
    kept = ("/checkpoints/", "/keys/")
    names = (name for name in storage.list() if name.startswith(("rows/", "details/")) or any(k in name for k in kept))
    return {name: storage.read_bytes(name) for name in names}
