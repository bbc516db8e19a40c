"""NSE's targets with the space before them and, as released, without it."""

import torch
from method_parts import moments, values
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method


def weights(**changes: object) -> dict[str, torch.Tensor]:
    model = tiny_model("llama")
    hyperparameters = build_hyperparameters(values("nse", **changes), where="test")
    resolve_method("nse").build(hyperparameters, moments(model)).edit(model, requests(), CONTEXTS, EditorState())
    return dict(model.edited_weights())


def test_the_released_form_has_other_targets_and_the_default_is_as_if_left_out() -> None:
    left_out, with_space, without = weights(), weights(nse_target_space=True), weights(nse_target_space=False)
    for name, weight in left_out.items():
        assert torch.equal(weight, with_space[name])
        assert not torch.allclose(weight, without[name], atol=1e-3)


def test_only_the_released_form_enters_an_identity() -> None:
    plain = build_hyperparameters(values("nse"), where="test").identity()
    assert build_hyperparameters(values("nse", nse_target_space=True), where="test").identity() == plain
    released = build_hyperparameters(values("nse", nse_target_space=False), where="test").identity()
    assert released == {**plain, "nse_target_space": False}
