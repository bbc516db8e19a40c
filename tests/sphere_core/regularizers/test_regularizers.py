"""Regularizers and write rules against independent slow forms: dense, float64, loops."""

import math
from typing import Any

import golden
import numpy as np
import pytest
import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.closed_form.lyaplock import LyapLockRule
from sphere_core.editors.closed_form.nse import strongest_neurons
from sphere_core.editors.closed_form.rules import EqualityRule, EvolvingNullSpaceRule, LeastSquaresRule
from sphere_core.editors.shaping import Shaping
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method
from sphere_core.models import Site
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import DenseUpdate, LowRankUpdate, Subspace
from sphere_core.numerics.spectrum import dominant_rank, singular_subspaces, spectral_norm
from sphere_core.regularizers import NormAnchor, Prune, Rect, Revive, Scope, Simie
from sphere_core.regularizers.nas import anchor_of
from sphere_core.solver import MomentPrior

OUT, D = 6, 11
NOTHING = EditorState()


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(seed: int, width: int = D) -> torch.Tensor:
    samples = normal(seed, width, 4 * width)
    return samples @ samples.T / samples.shape[1]


def site(rows: int = OUT, columns: int = D) -> Site:
    return Site(0, "layer", rows, columns, transposed=False)


def write(keys: torch.Tensor, residuals: torch.Tensor, weight: torch.Tensor, base: torch.Tensor) -> SiteWrite:
    return SiteWrite(site(), keys, residuals, weight, base)


def plain(weight: torch.Tensor) -> SiteWrite:
    return SiteWrite(site(*weight.shape), normal(0, weight.shape[1], 0), normal(0, weight.shape[0], 0), weight, weight)


def test_rect_against_the_recorded_case() -> None:
    cases = golden.arrays("linalg")
    weight, update = torch.from_numpy(cases["rect0_w"]), torch.from_numpy(cases["rect0_upd"])
    found = Rect(keep=0.4).apply(DenseUpdate(update.double()), plain(weight), NOTHING).dense()
    assert np.array_equal((found != 0).numpy(), cases["rect0_mask"].astype(bool))
    assert golden.relative_error(found, cases["rect0_out"]) < 1e-6


@pytest.mark.parametrize("keep", [0.1, 0.4, 0.75, 1.0])
def test_rect_keeps_the_largest_relative_changes(keep: float) -> None:
    weight, update = normal(1, OUT, D), normal(2, OUT, D)
    ratios = (update / weight).abs()
    found = Rect(keep=keep).apply(DenseUpdate(update), plain(weight), NOTHING).dense()
    kept = found != 0
    # k = int((1 - keep) numel) entries lie below the threshold entry, which itself stays.
    below = int((1 - keep) * ratios.numel() + 1e-9)
    assert int(kept.sum()) == ratios.numel() - max(below - 1, 0)
    if bool((~kept).any()):
        assert float(ratios[kept].min()) >= float(ratios[~kept].max())
    assert torch.equal(found[kept], update[kept])


def test_prune_against_the_recorded_case() -> None:
    cases = golden.arrays("linalg")
    base, delta = torch.from_numpy(cases["prune0_v"]), torch.from_numpy(cases["prune0_delta"])
    assert spectral_norm(base) == pytest.approx(float(cases["prune0_maxsigma"]), rel=1e-6)
    assert golden.relative_error(Prune().view(delta, base, "w"), cases["prune0_out"]) < 1e-5


@pytest.mark.parametrize("shape", [(6, 11), (11, 6), (7, 7)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_prune_against_the_whole_svd(shape: tuple[int, int], scale: float) -> None:
    base, change = normal(3, *shape), scale * normal(4, *shape)
    limit = float(torch.linalg.svdvals(base)[0])
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    damped = torch.where(values > limit, values.log() - math.log(limit) + limit, values)
    assert torch.allclose(Prune().view(change, base, "w"), left @ torch.diag(damped) @ right, atol=1e-9)


def test_prune_is_the_identity_below_the_limit() -> None:
    base = normal(5, OUT, D)
    change = 0.01 * normal(6, OUT, D)
    assert torch.equal(Prune().view(change, base, "w"), change)


def revive_by_loops(
    update: torch.Tensor, weight: torch.Tensor, threshold: float, energy: str, compact: bool
) -> torch.Tensor:
    """Expand dW in the singular bases and drop every term that touches a protected direction."""
    left, values, right = torch.linalg.svd(weight, full_matrices=True)
    energies = values if energy == "sum" else values**2
    rank = 0
    while float(energies[:rank].sum()) < threshold * float(energies.sum()) - 1e-12:
        rank += 1
    columns = len(values) if compact else weight.shape[1]
    kept = torch.zeros_like(update)
    for i in range(rank, weight.shape[0]):
        for j in range(rank, columns):
            coefficient = left[:, i] @ update @ right[j]
            kept += coefficient * torch.outer(left[:, i], right[j])
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.4, 0.8])
@pytest.mark.parametrize("energy", ["sum", "squares"])
@pytest.mark.parametrize("basis", ["complement", "compact"])
@pytest.mark.parametrize("low_rank", [True, False])
def test_revive_against_the_expansion(threshold: float, energy: Any, basis: Any, low_rank: bool) -> None:
    weight, factors = normal(7, OUT, D), LowRankUpdate(normal(8, OUT, 3), normal(9, D, 3))
    update = factors if low_rank else DenseUpdate(factors.dense())
    filtered = Revive(threshold=threshold, energy=energy, weight="base", basis=basis).apply(
        update, plain(weight), NOTHING
    )
    expected = revive_by_loops(factors.dense(), weight, threshold, energy, basis == "compact")
    assert torch.allclose(filtered.dense(), expected, atol=1e-9)
    assert isinstance(filtered, LowRankUpdate) == low_rank


def test_revive_follows_the_current_weight_when_asked() -> None:
    base, current = normal(10, OUT, D), normal(11, OUT, D)
    update = DenseUpdate(normal(12, OUT, D))
    task = SiteWrite(site(), normal(0, D, 0), normal(0, OUT, 0), current, base)
    for weight, whose in (("base", base), ("current", current)):
        found = Revive(threshold=0.3, energy="sum", weight=weight, basis="complement").apply(update, task, NOTHING)  # type: ignore[arg-type]
        assert torch.allclose(found.dense(), revive_by_loops(update.dense(), whose, 0.3, "sum", False), atol=1e-9)


def test_singular_subspaces_and_ranks() -> None:
    for shape in ((OUT, D), (D, OUT)):
        weight = normal(13, *shape)
        spaces = singular_subspaces(weight)
        assert torch.allclose(spaces.values, torch.linalg.svdvals(weight), rtol=1e-10)
        assert torch.allclose(spaces.left @ torch.diag(spaces.values) @ spaces.right.T, weight, atol=1e-10)
    values = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert [dominant_rank(values, share, "sum") for share in (0.0, 0.4, 0.41, 0.7, 1.0)] == [0, 1, 2, 2, 4]
    assert dominant_rank(values, 0.5, "squares") == 1


def test_simie_against_the_dense_form() -> None:
    keys, earlier = normal(14, D, 3), normal(15, D, 4)
    update = normal(16, OUT, D)
    state = Simie(ridge=0.7).remember(write(earlier.float(), normal(0, OUT, 0), update, update), NOTHING)
    found = Simie(ridge=0.7).apply(DenseUpdate(update), write(keys, normal(0, OUT, 0), update, update), state)
    past = earlier.float().double()
    system = 0.7 * torch.eye(D, dtype=torch.float64) + past @ past.T + keys @ keys.T
    assert torch.allclose(found.dense(), update @ keys @ keys.T @ torch.linalg.inv(system), atol=1e-9)


def test_norm_anchor_by_hand() -> None:
    starts = torch.zeros(2, 3)
    values = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    deltas = torch.tensor([[2.0, 0.0, 9.0], [0.0, 3.0, 0.0]])
    found = NormAnchor(anchor=2.0, factor=2.0).apply(starts, deltas, values)
    # v = (3, 0) -> (2, 0); v = (0, 4) -> (0, 2); v = (9, 0) is longer than 4: skipped.
    moved = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert torch.allclose(found, starts - values + moved)
    norms = torch.arange(1.0, 21.0)[None]
    assert anchor_of(torch.zeros(1, 20), norms) == pytest.approx(10.0)  # the largest of twenty is left out


def least_squares(weight: float, history: bool) -> LeastSquaresRule:
    prior = MomentPrior(moment(20), weight=weight, ridge=0.0, width=D)
    return LeastSquaresRule(prior, history, 1.0, None)


@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_error_feedback_ends_where_one_solution_over_all_edits_does(keep: float) -> None:
    """For any filter F: before the last filter, W equals the one-time solution (fixed keys, one layer)."""
    rule = least_squares(0.5, history=True)
    shaping = Shaping([("rect", Rect(keep=keep))], Scope.AFTER_BATCH, error_feedback=True)
    keys, values = normal(21, D, 8).float().double(), normal(22, OUT, 8)
    base, weight, state = normal(23, OUT, D), normal(23, OUT, D), EditorState()
    for start in range(0, 8, 2):
        batch = keys[:, start : start + 2]
        task = write(batch.float(), values[:, start : start + 2] - weight @ batch, weight, base)
        solved = rule.solve(task, state.part("rule/0"), shaping.correction(0, state))
        shaped = shaping.apply(solved, task, state)
        before_filter = weight + solved.dense()
        state = shaping.fed_back(solved, shaped, task, rule, state)
        weight = weight + shaped.dense()
        state = state.with_part("rule/0", rule.remember(task, state.part("rule/0")))
    targets = values - base @ keys
    at_once = base + targets @ torch.linalg.solve(0.5 * moment(20) + keys @ keys.T, keys).T
    assert torch.allclose(before_filter, at_once, atol=1e-8)
    assert not torch.allclose(weight, at_once, atol=1e-3)


def test_emmet_is_memit_with_lambda_scaled_and_an_equality_for_one() -> None:
    second = moment(20)
    keys, residuals = normal(24, D, 3), normal(25, OUT, 3)
    task = write(keys, residuals, normal(26, OUT, D), normal(26, OUT, D))
    emmet = EqualityRule(MomentPrior(second, weight=0.1 * 5.0, ridge=0.0, width=D), False, 1.0, None)
    memit = least_squares(0.5, history=False)
    found = emmet.solve(task, NOTHING, None).dense()
    assert torch.allclose(found, memit.solve(task, NOTHING, None).dense(), atol=1e-12)
    # The released form: D = K^T C^-1 K + mu I, dW = R D^-1 K^T C^-1 with C = lambda C0.
    spread = torch.linalg.solve(5.0 * second, keys)
    inner = keys.T @ spread + 0.1 * torch.eye(3, dtype=torch.float64)
    assert torch.allclose(found, residuals @ torch.linalg.solve(inner, spread.T), atol=1e-9)
    single = write(keys[:, :1], residuals[:, :1], normal(26, OUT, D), normal(26, OUT, D))
    assert torch.allclose(emmet.solve(single, NOTHING, None).dense() @ keys[:, :1], residuals[:, :1], atol=1e-10)


def test_evoedit_leaves_what_it_wrote_alone() -> None:
    vectors = torch.linalg.eigh(moment(27)).eigenvectors
    rule = EvolvingNullSpaceRule(Subspace(vectors[:, :8], complement=False), ridge=1.0, threshold=1e-9)
    state, earlier = EditorState(), []
    projector = vectors[:, :8] @ vectors[:, :8].T
    for batch in range(3):
        keys, residuals = normal(30 + batch, D, 2), normal(40 + batch, OUT, 2)
        task = write(keys, residuals, normal(1, OUT, D), normal(1, OUT, D))
        update = rule.solve(task, state, None).dense()
        spread = projector @ keys
        expected = residuals @ torch.linalg.solve(keys.T @ spread + torch.eye(2, dtype=torch.float64), spread.T)
        assert torch.allclose(update, expected, atol=1e-9)
        for past in earlier:
            assert float((update @ past).abs().max()) < 1e-9
        left = torch.linalg.svd(spread, full_matrices=False).U
        projector = projector - left @ left.T
        earlier.append(keys)
        state = rule.remember(task, state)
    written = state.tensors["written"]
    assert torch.allclose(written.T @ written, torch.eye(6, dtype=torch.float64), atol=1e-12)


def test_lyaplock_against_the_form_with_value_statistics() -> None:
    second, base, alpha, weight = moment(50), normal(51, OUT, D), 3.0, 0.7
    rule, state = LyapLockRule(second, weight, alpha), EditorState()
    live = base.clone()
    key_gram, value_gram = torch.zeros(D, D, dtype=torch.float64), torch.zeros(OUT, D, dtype=torch.float64)
    pressure, queue, rate, budget, floor = 1.0, 0.0, 0.0, 0.0, 0.0
    for batch in range(4):
        keys, residuals = normal(60 + batch, D, 2), normal(70 + batch, OUT, 2)
        # Published statistics of the unedited map: V0 K0^T = W_0 C0.
        left = residuals @ keys.T + pressure * weight * (base @ second - live @ second) + value_gram - live @ key_gram
        system = keys @ keys.T + key_gram + pressure * weight * second
        expected = left @ torch.linalg.inv(system)
        task = write(keys, residuals, live, base)
        assert torch.allclose(rule.solve(task, state, None).dense(), expected, atol=1e-8)
        live = live + expected
        state = rule.remember(write(keys, residuals, live, base), state)
        key_gram, value_gram = key_gram + keys @ keys.T, value_gram + live @ keys @ keys.T
        loss = float(torch.trace((live - base) @ second @ (live - base).T))
        if batch == 0:
            budget = alpha * loss
            floor = queue = math.sqrt(budget)
            rate = 1 / math.sqrt(budget)
        else:
            queue = max(queue + rate * (loss - budget), floor)
        pressure = rate * queue
    assert float(state.scalars["z"]) == pytest.approx(queue, rel=1e-9)


def test_history_window_and_weight() -> None:
    second, weight = moment(20), 0.4
    rule = LeastSquaresRule(MomentPrior(second, weight=0.5, ridge=0.1, width=D), True, weight, 3)
    state, seen = EditorState(), normal(0, D, 0)
    for batch in range(3):
        keys, residuals = normal(80 + batch, D, 2).float(), normal(90 + batch, OUT, 2)
        task = write(keys, residuals, normal(1, OUT, D), normal(1, OUT, D))
        recent = seen[:, -3:]
        system = 0.5 * second + 0.1 * torch.eye(D, dtype=torch.float64) + weight * recent @ recent.T
        system = system + keys.double() @ keys.double().T
        expected = residuals @ torch.linalg.solve(system, keys.double()).T
        assert torch.allclose(rule.solve(task, state, None).dense(), expected, atol=1e-7)
        state, seen = rule.remember(task, state), torch.cat([seen, keys.double()], dim=1)
    assert state.tensors["columns"].shape == (D, 3)
    forgetful = LeastSquaresRule(rule.prior, True, 0.0, None)
    assert forgetful.remember(task, NOTHING) == NOTHING


def test_strongest_neurons() -> None:
    keys = torch.tensor([[4.0, -4.0], [0.5, 0.5], [1.0, 3.0], [0.0, 1.0]])  # scores 8, 1, 4, 1 of 14
    assert strongest_neurons(keys, 0.5).tolist() == [0]
    assert strongest_neurons(keys, 0.86).tolist() == [0, 2]
    assert strongest_neurons(keys, 1.0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("memitt", "unknown method"),
        ("memit+spere", "unknown method"),
        ("memit+sphere+sphere", "twice"),
        ("ft+simie", "needs keys"),
        ("rome+nas", "needs targets"),
        ("ultraedit+error_feedback", "needs a quadratic system"),
        ("memit+error_feedback", "no regularizer whose error"),
        ("memit+prune+rect", "only sphere can follow"),
    ],
)
def test_names_that_make_no_method(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_method(name)


def test_ft_l_needs_a_box() -> None:
    values = {"layers": [0], "lr": 1e-3, "num_steps": 2, "batch_size": 2, "norm_constraint": False}
    hyperparameters = build_hyperparameters(values, where="test")
    resolve_method("ft").check(hyperparameters, where="test")
    with pytest.raises(InputError, match="norm_constraint"):
        resolve_method("ft_l").check(hyperparameters, where="test")
