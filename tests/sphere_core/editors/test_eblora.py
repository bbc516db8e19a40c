"""EBLoRA: its steps against autograd on the factors, equal singular values, and a memory that later batches avoid."""

import itertools
import math

import pytest
import torch
from method_parts import editor, likelihood, run
from site_parts import normal
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.eblora import EbloraEditor, extended_memory, first_factors, rate_at
from sphere_core.locate.supervision import supervise


def projected(point: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    return slope - point @ (slope.T @ point)


def polar(columns: torch.Tensor) -> torch.Tensor:
    """The polar factor by its definition, X (X^T X)^{-1/2}."""
    values, vectors = torch.linalg.eigh(columns.T @ columns)
    return columns @ (vectors * values.rsqrt()) @ vectors.T


def test_a_batch_against_the_loop_written_out() -> None:
    """AdamW of torch on U, V and s by autograd, the projections around it; no memory in the first batch."""
    changes = {"num_steps": 8, "batch_size": 4, "weight_decay": 0.1}
    model, plain = tiny_model("llama"), tiny_model("llama")
    editor("eblora", model, **changes).edit(model, requests()[:4], CONTEXTS, EditorState())
    (site,) = plain.open_sites([1])
    base, supervision = plain.weight(site).double(), supervise(plain, requests()[:4])

    def slope_at(weight: torch.Tensor) -> torch.Tensor:
        plain.set_weight(site, weight.detach().float())
        with plain.trainable([site]) as (parameter,):
            return torch.autograd.grad(supervision.loss(plain), parameter)[0].double()

    left, _, right = torch.linalg.svd(slope_at(base), full_matrices=False)
    u, v = (x[:, :2].clone().requires_grad_(True) for x in (left, right.T))
    s = torch.tensor(-0.05, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.AdamW([{"params": [u, v], "weight_decay": 0.0}, {"params": [s], "weight_decay": 0.1}])
    for step in range(8):
        for group in adam.param_groups:
            group["lr"] = 0.01 * rate_at(step, 8)
        change = 2.0 * s * u @ v.T
        slope = slope_at(base + change)
        u.grad, v.grad, s.grad = torch.autograd.grad((slope * change).sum(), [u, v, s])
        before = u.detach().clone(), v.detach().clone()
        u.grad, v.grad = projected(before[0], u.grad), projected(before[1], v.grad)
        adam.step()
        with torch.no_grad():
            for x, old in zip((u, v), before, strict=True):
                x.copy_(polar(old + projected(old, (x - old) / math.sqrt(2 / 2.0))))
    expected = (2.0 * s * u @ v.T).detach()
    (edited,) = model.open_sites([1])
    found = (model.weight(edited) - model.base_weight(edited)).double()
    # Moments of U and V are normalised: where a gradient is nearly zero its rounding is amplified.
    assert float((found - expected).norm() / expected.norm()) < 1e-2


def test_all_singular_values_of_a_change_are_equal_and_later_changes_avoid_the_memory() -> None:
    model = tiny_model("llama")
    built = editor("eblora", model)
    first = built.edit(model, requests()[:2], CONTEXTS, EditorState())
    basis = first.part("memory/1").tensors["basis"]
    assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1], dtype=torch.float64), atol=1e-12)
    (site,) = model.sites
    before = model.weight(site)
    second = built.edit(model, requests()[2:4], CONTEXTS, first)
    change = (model.weight(site) - before).double()
    values = torch.linalg.svdvals(change)
    assert float(values[1] / values[0]) == pytest.approx(1, abs=1e-3)
    assert float(values[2] / values[0]) < 1e-3
    # Rounded to fp32 when it was merged.
    assert float((change @ basis).norm() / change.norm()) < 1e-3
    grown = second.part("memory/1").tensors["basis"]
    assert torch.equal(grown[:, : basis.shape[1]], basis)
    assert grown.shape[1] > basis.shape[1]
    assert torch.allclose(grown.T @ grown, torch.eye(grown.shape[1], dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_the_memory_spans_the_share_of_a_gradient_and_no_direction_more(share: float) -> None:
    slope, earlier = normal(1, 5, 9), torch.linalg.qr(normal(2, 9, 2)).Q
    for memory in (None, earlier):
        grown = extended_memory(slope, memory, share)
        assert grown is not None
        spanned = float((slope @ grown).square().sum() / slope.square().sum())
        fewer = float((slope @ grown[:, :-1]).square().sum() / slope.square().sum())
        assert spanned >= share - 1e-9
        assert fewer < share


def test_what_is_spanned_already_adds_nothing_and_a_full_memory_leaves_nothing_to_write() -> None:
    slope = normal(1, 3, 4)
    everything = torch.eye(4, dtype=torch.float64)
    assert extended_memory(slope, everything, 0.99) is everything
    assert extended_memory(torch.zeros(3, 4, dtype=torch.float64), None, 0.99) is None
    empty = first_factors(slope, everything, 2, -0.1)
    assert empty.left.shape == (3, 0)
    assert torch.equal(empty.update(2.0).dense(), torch.zeros(3, 4, dtype=torch.float64))
    thin = first_factors(slope, everything[:, :3], 2, -0.1)
    assert thin.left.shape == (3, 1)
    assert torch.allclose(thin.right.abs(), everything[:, 3:], atol=1e-12)


def test_the_first_step_goes_against_the_gradient() -> None:
    model = tiny_model("llama")
    before = likelihood(model, 2)
    editor("eblora", model, lr=1e-9, num_steps=1, lora_start=-0.02).edit(model, requests()[:2], CONTEXTS, EditorState())
    assert likelihood(model, 2) > before


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 100) for step in range(100)]
    assert rates[:4] == [0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1]
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[3:]))
    assert rates[-1] < 0.001


def test_a_weight_that_is_not_finite_is_a_result() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.network.get_input_embeddings().weight.fill_(torch.inf)
    built = editor("eblora", model)
    assert isinstance(built, EbloraEditor)
    state = built.edit(model, requests()[:2], CONTEXTS, EditorState())
    assert not state.tensors
    assert run("eblora", tiny_model("llama"), count=4)[-1].state.tensors["memory/1/basis"].shape[0] == 72
