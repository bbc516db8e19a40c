"""Methods on tiny models: hyperparameters for every row of the table, second moments, and whole trajectories."""

from typing import Any

import torch
from neuron_parts import neuron_values
from serac_parts import serac_values
from tiny_models import CONTEXTS, requests

from benchmarks.tiny_values import OF_EDITORS
from sphere_core.checkpoints import Checkpoint
from sphere_core.editors.base import Editor
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.hyperparameters.places import Place, places_of
from sphere_core.locate.supervision import supervise
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.trajectory import run_trajectory

VALUES: dict[str, Any] = {
    "layers": [0, 1],
    "v_lr": 0.3,
    "v_num_grad_steps": 5,
    "v_weight_decay": 0.1,
    "clamp_norm_factor": 2.0,
    "kl_factor": 0.0625,
    "mom2_update_weight": 1e-3,
    "nullspace_share": 0.9,
    "L2": 1e-3,
    "evoedit_threshold": 1e-3,
    "lyaplock_alpha": 60,
    "nse_alpha": 0.01,
    "nse_upper_bound": 1e6,
    "neuron_threshold": 0.95,
    "max_iterations": 3,
    "batch_size": 2,
    "memory_threshold": 0.9,
    "energy_ratio": 0.3,
    "strength": 0.4,
    "rect_keep": 0.7,
    "balance_strength": 0.5,
    "revive_threshold": 0.1,
    "simie_lambda": 1e-3,
    "simie_start": "unedited",
    "nas_factor": 5.0,
    "gate_budget": 100.0,
    "gate_anchors": 4,
    "gate_steps": 3,
    "gate_measure": "bits",
    "gate_search": "halving",
}


# Layers, rates and steps, beside what the benchmark for a card gives the same editors.
_CHOSEN: dict[str, dict[str, Any]] = {
    "ft": {"lr": 0.01, "num_steps": 8, "layers": [1]},
    "ft_l": {"lr": 0.01, "num_steps": 8, "layers": [1]},
    "rome": {"layers": [1]},
    "r_rome": {"layers": [1]},
    "neuraldb": {"layers": [1]},
    "retrieve": {"layers": [1]},
    "grace": {"lr": 0.3, "num_steps": 8, "layers": [1]},
    "wise": {"lr": 0.5, "num_steps": 8, "layers": [1]},
    "memoir": {"lr": 1.0, "num_steps": 8, "layers": [1]},
    "moeedit": {"targets": "root", "unseen_experts": "frozen"},
    "emmet": {"emmet_lambda": 0.1, "layers": [1]},
    "encore": {"update_norm_lambda": 1e-4, "prob_cutoff": -2},
    "truncate": {"spectrum_levels": [0.9, 0.5, 0.2]},
    "crispedit": {"lr": 0.01, "num_steps": 8, "layers": [1]},
    "eblora": {"lr": 0.01, "num_steps": 8, "layers": [1]},
    "lora": {"lr": 0.02, "num_steps": 8, "layers": [1]},
    "ultraedit": {"lr": 1e-3},
}
BY_EDITOR = {name: {**OF_EDITORS.get(name, {}), **_CHOSEN.get(name, {})} for name in {**OF_EDITORS, **_CHOSEN}}


# What rows bring along from elsewhere.
_BROUGHT = {"neurons": neuron_values, "serac": serac_values}


# Options of rows, by the name that follows an at sign: `memit@forward`.
OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "forward": {"targets": "forward"},
    "sites": {"layers": [0, 1], "sites": {"up": [0, 1], "down": [1]}},
}


def values(method: str, **changes: Any) -> dict[str, Any]:
    name, _, option = method.partition("@")
    brought = _BROUGHT[name]() if name in _BROUGHT else {}
    return {**VALUES, **BY_EDITOR.get(name.split("+")[0], {}), **brought, **OPTIONS[option], **changes}


def places(method: str) -> tuple[Place, ...]:
    """The sites that a method edits."""
    given = values(method)
    return places_of(given["layers"], given.get("sites"))


def moments(model: EditableModel) -> SecondMoments:
    generator = torch.Generator().manual_seed(9)
    by_layer, routed = {}, {}
    for site in model.open_sites((0, 1)):
        if site.experts:
            width = site.d_in // site.experts
            blocks = torch.randn(site.experts, width, 4 * width, generator=generator, dtype=torch.float64)
            by_layer[site.layer] = blocks @ blocks.mT / (4 * width)
            routed[site.layer] = torch.full((site.experts,), 4.0 * width, dtype=torch.float64)
            continue
        samples = torch.randn(site.d_in, 4 * site.d_in, generator=generator, dtype=torch.float64)
        by_layer[site.layer] = samples @ samples.T / samples.shape[1]
    own, gradients = torch.Generator().manual_seed(10), {}
    for site in model.open_sites((0, 1)):
        slopes = torch.randn(site.d_out, 4 * site.d_out, generator=own, dtype=torch.float64)
        gradients[site.layer] = slopes @ slopes.T / slopes.shape[1]
    return SecondMoments(by_layer, 1, {}, gradients=gradients, routed=routed)


def editor(method: str, model: EditableModel, **changes: Any) -> Editor:
    resolved = resolve_method(method.partition("@")[0])
    hyperparameters = build_hyperparameters(values(method, **changes), where="test")
    resolved.check(hyperparameters, where="test")
    return resolved.build(hyperparameters, moments(model) if resolved.needs_moments(hyperparameters) else None)


def run(
    method: str,
    model: EditableModel,
    *,
    batch_size: int = 2,
    resume: Checkpoint | None = None,
    count: int = 5,
    **changes: Any,
) -> list[Checkpoint]:
    built = editor(method, model, **changes)
    stream = run_trajectory(
        "t", built, model, requests()[:count], batch_size=batch_size, contexts=CONTEXTS, resume=resume
    )
    return list(stream)


def likelihood(model: EditableModel, count: int) -> float:
    """Mean log-probability a token of the new targets of the first requests, in nats."""
    with torch.no_grad():
        return -float(supervise(model, requests()[:count]).loss(model))
