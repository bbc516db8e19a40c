"""B1: two batches of four with every method of the table, on a model of two layers; what fails, with its error."""

from dataclasses import replace

import torch

from benchmarks.gpu.setting import Setting
from sphere_core.costs import place
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import example_names, resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.trajectory import run_trajectory

__all__ = ["measure"]

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
    "nas_factor": 5.0,
    "gate_budget": 100.0,
    "gate_anchors": 4,
    "gate_steps": 1,
}


def measure(setting: Setting, device: torch.device) -> dict[str, str]:
    """Return `ok` or the error of every method's name."""
    return {name: _run(name, setting, device) for name in example_names()}


def _run(name: str, setting: Setting, device: torch.device) -> str:
    method = resolve_method(name)
    needs = {
        option for row in (method.editor_row, *method.regularizer_rows) for names in row.requires for option in names
    }
    chosen = {key: value for key, value in _VALUES.items() if key != "norm_constraint" or name.startswith("ft_l")}
    if "norm_constraint" in needs:
        chosen["norm_constraint"] = 0.05
    hyperparameters = build_hyperparameters(chosen, where="benchmark")
    try:
        model = _small(setting, device)
        requests, contexts = setting.requests(model, 8)
        moments = _moments(model)
        placement = place(model, method, hyperparameters, requests, batch_size=4, contexts=contexts, moments=moments)
        editor = method.build(hyperparameters, moments, placement)
        chain = run_trajectory(name, editor, model, requests, batch_size=4, contexts=contexts, resume=None)
        edits = [checkpoint.edits for checkpoint in chain]
    except Exception as error:  # noqa: BLE001 - what fails, and how, is the result
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "ok" if edits == [4, 8] else f"collapsed after {edits[-1]} edits"


def _small(setting: Setting, device: torch.device) -> EditableModel:
    return replace(setting, hidden=64, intermediate=160, depth=2, heads=4, shared_heads=2, vocabulary=300).model(device)


def _moments(model: EditableModel) -> SecondMoments:
    (site,) = model.open_sites([0])
    generator = torch.Generator().manual_seed(1)
    samples = torch.randn(site.d_in, 2 * site.d_in, generator=generator, dtype=torch.float64)
    return SecondMoments({0: samples @ samples.T / samples.shape[1]}, 1, {})
