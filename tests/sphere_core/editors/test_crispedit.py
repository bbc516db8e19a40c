"""CrispEdit: its filter against the whole Kronecker product, its state, AlphaEdit's projection as a special case."""

import pytest
import torch
from method_parts import editor, likelihood, moments, run
from site_parts import normal
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.crispedit import CrispEditEditor, LowCurvature, curvature_cut
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.locate.supervision import supervise
from sphere_core.methods import resolve_method
from sphere_core.moments.null_space import null_space
from sphere_core.moments.record import SecondMoments


def second(seed: int, width: int) -> torch.Tensor:
    samples = normal(seed, width, 3 * width)
    return samples @ samples.T / samples.shape[1]


@pytest.mark.parametrize("energy", [0.3, 0.8, 0.99])
def test_a_filtered_gradient_is_a_projection_in_the_whole_space_of_weights(energy: float) -> None:
    """The slow form: eigenvectors of the [o d, o d] matrix S x A, those of low curvature kept."""
    inputs, outputs, gradient = second(1, 5), second(2, 4), normal(3, 4, 5)
    values, vectors = torch.linalg.eigh(torch.kron(outputs, inputs))
    ordered = values.flip(0)
    held = int((ordered.cumsum(0) / ordered.sum() < energy).sum())
    kept = vectors[:, values < ordered[held] * (1 - 1e-12)]
    slow = (kept @ (kept.T @ gradient.flatten())).view(4, 5)
    found = LowCurvature.of(inputs, outputs, energy).apply(gradient.float())
    assert torch.allclose(found.double(), slow, atol=1e-5)
    assert 0 < kept.shape[1] < 20


def test_with_equal_output_curvature_it_is_the_projection_of_alphaedit() -> None:
    inputs, gradient = second(4, 6), normal(5, 3, 6)
    products = torch.outer(torch.ones(3, dtype=torch.float64), torch.linalg.eigvalsh(inputs))
    cut = float(curvature_cut(products, 0.7))
    found = LowCurvature.of(inputs, torch.eye(3, dtype=torch.float64), 0.7).apply(gradient.float())
    projected = null_space(inputs, threshold=cut * (1 - 1e-9), share=None).project(gradient.T).T
    assert torch.allclose(found.double(), projected, atol=1e-5)


def test_the_cut_is_the_smallest_of_the_products_that_hold_the_share() -> None:
    products = torch.tensor([[5.0, 1.0], [3.0, 1.0]], dtype=torch.float64)
    assert float(curvature_cut(products, 0.5)) == 5.0
    assert float(curvature_cut(products, 0.51)) == 3.0
    assert float(curvature_cut(products, 0.8)) == 3.0
    assert float(curvature_cut(products, 0.999)) == 1.0


def test_a_batch_against_the_loop_written_out() -> None:
    """Adam of torch on one site of a copy, its gradient projected by hand at every step."""
    model, plain = tiny_model("llama"), tiny_model("llama")
    changes = {"num_steps": 6, "batch_size": 4, "ft_stop_loss": 0.0}
    editor("crispedit", model, **changes).edit(model, requests()[:4], CONTEXTS, EditorState())
    (site,) = plain.open_sites([1])
    known = moments(tiny_model("llama"))
    a, u_in = torch.linalg.eigh(known.by_layer[1])
    s, u_out = torch.linalg.eigh(known.gradients[1])
    products = torch.outer(s, a)
    mask = products < curvature_cut(products, 0.6)
    supervision = supervise(plain, requests()[:4])
    with plain.trainable([site]) as (parameter,):
        adam = torch.optim.Adam([parameter], lr=0.01)
        for _ in range(6):
            loss = supervision.token_loss(plain) / len(supervision.targets)
            (slope,) = torch.autograd.grad(loss, [parameter])
            turned = u_out.T @ slope.double() @ u_in
            parameter.grad = (u_out @ (turned * mask) @ u_in.T).float()
            adam.step()
        parameter.grad = None
        changed = parameter.detach().clone() - plain.base_weight(site)
    (edited,) = model.open_sites([1])
    found = model.weight(edited) - model.base_weight(edited)
    assert float((found - changed).norm() / changed.norm()) < 1e-3


def test_earlier_edits_protect_themselves_and_history_weight_0_forgets_them() -> None:
    model = tiny_model("llama")
    built = editor("crispedit", model)
    assert isinstance(built, CrispEditEditor)
    state = built.edit(model, requests()[:2], CONTEXTS, EditorState())
    part = state.part("curvature/1")
    # One row for each target token.
    tokens = len(supervise(model, requests()[:2]).targets)
    assert part.scalars["tokens"] == tokens
    assert part.tensors["inputs.symmetric"].shape == (72, 72)
    assert part.tensors["outputs.symmetric"].shape == (32, 32)
    more = built.edit(model, requests()[2:4], CONTEXTS, state).part("curvature/1")
    assert more.scalars["tokens"] == tokens + len(supervise(model, requests()[2:4]).targets)
    for tensor in more.tensors.values():
        assert torch.equal(tensor, tensor.T)
    (site,) = model.open_sites([1])
    filters = [built._filter(site, known, model.device) for known in (EditorState(), state)]
    assert not torch.equal(filters[0].mask, filters[1].mask)
    assert not run("crispedit", tiny_model("llama"), history_weight=0, count=4)[-1].state.tensors


def test_a_smaller_share_leaves_more_room() -> None:
    gains = []
    for energy in (0.05, 0.999999):
        model = tiny_model("llama")
        before = likelihood(model, 2)
        editor("crispedit", model, crisp_energy=energy).edit(model, requests()[:2], CONTEXTS, EditorState())
        gains.append(likelihood(model, 2) - before)
    assert gains[0] > gains[1]


def test_moments_without_gradients_are_refused_with_the_command_that_builds_them() -> None:
    model = tiny_model("llama")
    given = build_hyperparameters(
        {"layers": [1], "lr": 0.01, "num_steps": 2, "batch_size": 2, "crisp_energy": 0.5}, where="test"
    )
    method = resolve_method("crispedit")
    assert method.needs_gradients(given)
    assert not resolve_method("ft").needs_gradients(given)
    with pytest.raises(InputError, match="no second moment of the output gradients of layer 1") as raised:
        method.build(given, SecondMoments(moments(model).by_layer, 1, {}))
    assert "--gradients" in str(raised.value)
