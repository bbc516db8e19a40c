"""B1: two batches of four with every method of the table, on a model of two layers; what fails, with its error."""

from dataclasses import replace

import torch

from benchmarks.gpu.setting import Setting
from benchmarks.tiny_values import OF_EDITORS
from sphere_core.costs import place
from sphere_core.hyperparameters import Hyperparameters, build_hyperparameters
from sphere_core.methods import example_names, resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.trajectory import run_trajectory

__all__ = ["hyperparameters", "measure", "skipped"]

_VALUES: dict[str, object] = {
    "layers": [0],
    "v_lr": 0.1,
    "v_num_grad_steps": 3,
    "v_weight_decay": 0.1,
    "clamp_norm_factor": 0.75,
    "kl_factor": 0.0625,
    "mom2_update_weight": 1.0,
    "nullspace_share": 0.5,
    "L2": 1.0,
    "evoedit_threshold": 1e-3,
    "lyaplock_alpha": 60,
    "nse_alpha": 0.01,
    "nse_upper_bound": 1e6,
    "neuron_threshold": 0.95,
    "max_iterations": 2,
    "emmet_lambda": 0.1,
    "update_norm_lambda": 1e-4,
    "prob_cutoff": 2,
    "lr": 1e-3,
    "num_steps": 2,
    "batch_size": 2,
    "energy_ratio": 0.3,
    "strength": 0.5,
    "rect_keep": 0.7,
    "revive_threshold": 0.1,
    "simie_lambda": 1.0,
    "simie_start": "unedited",
    "nas_factor": 5.0,
    "gate_budget": 100.0,
    "gate_anchors": 4,
    "gate_steps": 1,
    "gate_measure": "bits",
    "gate_search": "halving",
    "balance_strength": 0.5,
    "memory_threshold": 0.9,
}
_SKIPPED = {
    "moeedit": "skipped: it edits mixtures",
    "neurons": "skipped: it requires a file of neurons",
    "serac": "skipped: it requires trained companions",
}


def measure(setting: Setting, device: torch.device) -> dict[str, str]:
    """Return by every method's name `ok`, its error, or why it was skipped."""
    return {name: _run(name, setting, device) for name in example_names()}


def _run(name: str, setting: Setting, device: torch.device) -> str:
    without = skipped(name)
    if without is not None:
        return without
    method = resolve_method(name)
    try:
        chosen, model = hyperparameters(name), _small(setting, device)
        requests, contexts = setting.requests(model, 8)
        moments = _moments(model)
        placement = place(model, method, chosen, requests, batch_size=4, contexts=contexts, moments=moments)
        editor = method.build(chosen, moments, placement)
        chain = run_trajectory(name, editor, model, requests, batch_size=4, contexts=contexts, resume=None)
        edits = [checkpoint.edits for checkpoint in chain]
    except Exception as error:  # noqa: BLE001 - what fails, and how, is the result
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return _outcome(edits)


def skipped(name: str) -> str | None:
    """Return why a method is not run on this model; None if it is."""
    return _SKIPPED.get(name.split("+")[0])


def hyperparameters(name: str) -> Hyperparameters:
    """Return the values that a method is run with."""
    return build_hyperparameters({**_VALUES, **OF_EDITORS.get(name.split("+")[0], {})}, where="benchmark")


def _outcome(edits: list[int]) -> str:
    return "ok" if edits == [4, 8] else f"collapsed after {edits[-1] if edits else 0} edits"


def _small(setting: Setting, device: torch.device) -> EditableModel:
    return replace(setting, hidden=64, intermediate=160, depth=2, heads=4, shared_heads=2, vocabulary=300).model(device)


def _moments(model: EditableModel) -> SecondMoments:
    (site,) = model.open_sites([0])
    generator = torch.Generator().manual_seed(1)
    samples = torch.randn(site.d_in, 2 * site.d_in, generator=generator, dtype=torch.float64)
    slopes = torch.randn(site.d_out, 2 * site.d_out, generator=generator, dtype=torch.float64)
    gradients = {0: slopes @ slopes.T / slopes.shape[1]}
    return SecondMoments({0: samples @ samples.T / samples.shape[1]}, 1, {}, gradients=gradients)
