"""Write rules against independent slow forms: dense, float64, loops."""

import math
from dataclasses import replace

import pytest
import torch
from site_parts import NOTHING, OUT, D, moment, normal, write

from sphere_core.checkpoints import EditorState
from sphere_core.editors.closed_form.lyaplock import LyapLockRule
from sphere_core.editors.closed_form.nse import strongest_neurons
from sphere_core.editors.closed_form.rules import EqualityRule, EvolvingNullSpaceRule, LeastSquaresRule
from sphere_core.editors.shaping import Shaping
from sphere_core.numerics.linalg import Subspace
from sphere_core.numerics.placement import Resident
from sphere_core.regularizers import Rect, Scope
from sphere_core.solver import MomentPrior


def least_squares(weight: float, history: bool) -> LeastSquaresRule:
    prior = MomentPrior(moment(20), weight=weight, ridge=0.0, width=D)
    return LeastSquaresRule(prior, history, 1.0, None)


@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_error_feedback_ends_where_one_solution_over_all_edits_does(keep: float) -> None:
    """For any filter F: before the last filter, W equals the one-time solution (fixed keys, one layer)."""
    rule = replace(least_squares(0.5, history=True), keeps_system=True)
    shaping = Shaping([("rect", Rect(keep=keep))], Scope.AFTER_BATCH, error_feedback=True)
    keys, values = normal(21, D, 8).float().double(), normal(22, OUT, 8)
    base, weight, state = normal(23, OUT, D), normal(23, OUT, D), EditorState()
    for start in range(0, 8, 2):
        batch = keys[:, start : start + 2]
        task = write(batch.float(), values[:, start : start + 2] - weight @ batch, weight, base)
        solved = rule.solve(task, state.part("rule/0"), shaping.correction(0, state)).update
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
    found = emmet.solve(task, NOTHING, None).update.dense()
    assert torch.allclose(found, memit.solve(task, NOTHING, None).update.dense(), atol=1e-12)
    # The released form: D = K^T C^-1 K + mu I, dW = R D^-1 K^T C^-1 with C = lambda C0.
    spread = torch.linalg.solve(5.0 * second, keys)
    inner = keys.T @ spread + 0.1 * torch.eye(3, dtype=torch.float64)
    assert torch.allclose(found, residuals @ torch.linalg.solve(inner, spread.T), atol=1e-9)
    single = write(keys[:, :1], residuals[:, :1], normal(26, OUT, D), normal(26, OUT, D))
    assert torch.allclose(emmet.solve(single, NOTHING, None).update.dense() @ keys[:, :1], residuals[:, :1], atol=1e-10)


def test_evoedit_leaves_what_it_wrote_alone() -> None:
    vectors = torch.linalg.eigh(moment(27)).eigenvectors
    rule = EvolvingNullSpaceRule(Resident(Subspace(vectors[:, :8], complement=False)), ridge=1.0, threshold=1e-9)
    state, earlier = EditorState(), []
    projector = vectors[:, :8] @ vectors[:, :8].T
    for batch in range(3):
        keys, residuals = normal(30 + batch, D, 2), normal(40 + batch, OUT, 2)
        task = write(keys, residuals, normal(1, OUT, D), normal(1, OUT, D))
        update = rule.solve(task, state, None).update.dense()
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


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 3.0])
def test_lyaplock_against_the_form_with_value_statistics(alpha: float) -> None:
    second, base, weight = moment(50), normal(51, OUT, D), 0.7
    rule, state = LyapLockRule(Resident(second), weight, alpha), EditorState()
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
        assert torch.allclose(rule.solve(task, state, None).update.dense(), expected, atol=1e-8)
        live = live + expected
        state = rule.remember(write(keys, residuals, live, base), state)
        key_gram, value_gram = key_gram + keys @ keys.T, value_gram + live @ keys @ keys.T
        loss = float(torch.trace((live - base) @ second @ (live - base).T))
        if batch == 0:
            budget = alpha * loss
            floor = queue = math.sqrt(budget)
            rate = 1 / math.sqrt(budget)
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
        assert torch.allclose(rule.solve(task, state, None).update.dense(), expected, atol=1e-7)
        state, seen = rule.remember(task, state), torch.cat([seen, keys.double()], dim=1)
    assert state.tensors["columns"].shape == (D, 3)
    forgetful = LeastSquaresRule(rule.prior, True, 0.0, None)
    assert forgetful.remember(task, NOTHING) == NOTHING


def test_strongest_neurons() -> None:
    keys = torch.tensor([[4.0, -4.0], [0.5, 0.5], [1.0, 3.0], [0.0, 1.0]])  # scores 8, 1, 4, 1 of 14
    assert strongest_neurons(keys, 0.5).tolist() == [0]
    assert strongest_neurons(keys, 0.86).tolist() == [0, 2]
    assert strongest_neurons(keys, 1.0).tolist() == [0, 1, 2, 3]
