"""The least-squares step: its normal equations, its exact forms, and what each prior promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from site_parts import normal

from sphere_core.foundation.errors import InputError
from sphere_core.moments.null_space import null_space
from sphere_core.numerics.linalg import Subspace
from sphere_core.solver import KeyHistory, MomentPrior, NullSpacePrior, key_memory_gain, least_squares_update


def moment(seed: int, width: int) -> torch.Tensor:
    samples = normal(seed, width, 3 * width)
    return samples @ samples.T / samples.shape[1]


def memit_prior(second: torch.Tensor, weight: float) -> MomentPrior:
    return MomentPrior(second, weight=weight, ridge=0.0, width=len(second))


@given(seed=st.integers(0, 1000), width=st.integers(4, 16), count=st.integers(1, 20), weight=st.floats(0.01, 100))
@settings(max_examples=50)
def test_memit_meets_its_normal_equations(seed: int, width: int, count: int, weight: float) -> None:
    keys, residuals, second = normal(seed, width, count), normal(seed + 1, 5, count), moment(seed + 2, width)
    update = least_squares_update(memit_prior(second, weight), KeyHistory(), keys, residuals).dense()
    left = update @ (weight * second + keys @ keys.T)
    assert torch.allclose(left, residuals @ keys.T, atol=1e-8 * float(left.abs().max()) + 1e-9)


def test_memit_is_a_ridge_regression() -> None:
    # With C0 = I the step is ridge regression: stack sqrt(lambda) I under the keys and take least squares.
    keys, residuals, weight = normal(1, 6, 4), normal(2, 3, 4), 2.5
    stacked = torch.cat([keys.T, weight**0.5 * torch.eye(6, dtype=torch.float64)])
    right = torch.cat([residuals.T, torch.zeros(6, 3, dtype=torch.float64)])
    expected = torch.linalg.lstsq(stacked, right).solution.T
    prior = memit_prior(torch.eye(6, dtype=torch.float64), weight)
    assert torch.allclose(least_squares_update(prior, KeyHistory(), keys, residuals).dense(), expected, atol=1e-10)


def test_no_residual_no_update() -> None:
    update = least_squares_update(
        memit_prior(moment(1, 6), 1.0),
        KeyHistory(),
        normal(2, 6, 3),
        torch.zeros(4, 3, dtype=torch.float64),
    )
    assert float(update.dense().abs().max()) == 0


@pytest.mark.parametrize("kind", ["moment", "null space", "complement"])
@pytest.mark.parametrize("history", [0, 3, 9])
def test_key_memory_form_equals_dense_form_and_definition(kind: str, history: int) -> None:
    width, count = 12, 2
    second = moment(5, width)
    vectors = torch.linalg.eigh(second).eigenvectors
    if kind == "moment":
        prior, projector, precision = (
            memit_prior(second, 3.0),
            torch.eye(width, dtype=torch.float64),
            3.0 * second,
        )
    else:
        space = Subspace(vectors[:, :8], complement=False) if kind == "null space" else Subspace(vectors[:, 8:], True)
        prior, projector = NullSpacePrior(space, 0.7), vectors[:, :8] @ vectors[:, :8].T
        precision = 0.7 * torch.eye(width, dtype=torch.float64)
    memory = normal(6, width, history + count)
    keys = memory[:, history:]
    gram = memory @ memory.T
    # Released AlphaEdit: (P gram + L2 I) X = P K, a non-symmetric system; with P = I it is MEMIT's.
    expected = torch.linalg.solve(projector @ gram + precision, projector @ keys)
    assert torch.allclose(key_memory_gain(prior, memory, count), expected, atol=1e-10)
    assert torch.allclose(prior.system(gram).solve(keys), expected, atol=1e-10)


def test_history_turns_into_its_gram_matrix_when_that_is_smaller() -> None:
    prior, width = memit_prior(moment(7, 6), 1.0), 6
    history, seen = KeyHistory(), torch.empty(width, 0)
    for batch in range(5):
        keys, residuals = normal(batch, width, 2).float(), normal(batch + 50, 3, 2)
        wide = torch.cat([seen, keys], dim=1).double()
        precision = 1.0 * moment(7, width) + wide @ wide.T
        expected = residuals @ torch.linalg.solve(precision, keys.double()).T
        assert torch.allclose(least_squares_update(prior, history, keys, residuals).dense(), expected, atol=1e-9)
        history, seen = history.append(keys), torch.cat([seen, keys], dim=1)
        assert (history.columns is None) == (seen.shape[1] >= width)
        assert (history.gram is None) == (seen.shape[1] < width)


def test_history_equals_solving_for_all_edits_at_once() -> None:
    """With history and fixed keys, batch after batch ends where one ridge solution over all edits does."""
    width, weight = 9, 0.8
    second, keys, values = moment(8, width), normal(9, width, 8), normal(10, 4, 8)
    prior, history, change = (
        memit_prior(second, weight),
        KeyHistory(),
        torch.zeros(4, width, dtype=torch.float64),
    )
    for start in range(0, 8, 2):
        batch = keys[:, start : start + 2]
        residuals = values[:, start : start + 2] - change @ batch
        change = change + least_squares_update(prior, history, batch, residuals).dense()
        history = history.append(batch)
    at_once = values @ torch.linalg.solve(weight * second + keys @ keys.T, keys).T
    assert torch.allclose(change, at_once, atol=1e-9)


@given(seed=st.integers(0, 1000), protected=st.integers(1, 6))
@settings(max_examples=30)
def test_alphaedit_leaves_protected_keys_alone(seed: int, protected: int) -> None:
    width = 10
    kept = normal(seed, width, protected)
    space = null_space(kept @ kept.T / protected, threshold=1e-9, share=None)
    keys, residuals = normal(seed + 1, width, 3), normal(seed + 2, 4, 3)
    update = least_squares_update(NullSpacePrior(space, 0.1), KeyHistory(), keys, residuals).dense()
    assert float((update @ kept).abs().max()) < 1e-6
    assert float((update @ keys).abs().max()) > 1e-3


def test_null_space_is_kept_as_its_thinner_side() -> None:
    second = torch.diag(torch.tensor([1e-4, 2e-4, 3e-4, 1.0, 2.0], dtype=torch.float64))
    by_threshold = null_space(second, threshold=1e-2, share=None)
    assert by_threshold.dimension == 3
    assert by_threshold.complement
    assert by_threshold.basis.shape == (5, 2)
    by_share = null_space(second, threshold=None, share=0.4)
    assert by_share.dimension == 2
    assert not by_share.complement
    with pytest.raises(InputError, match="no eigenvalue"):
        null_space(second, threshold=1e-9, share=None)


def test_a_singular_moment_is_named() -> None:
    prior = memit_prior(torch.zeros(4, 4), 1.0)
    with pytest.raises(InputError, match="second moment C0 is not positive definite"):
        least_squares_update(prior, KeyHistory(), normal(1, 4, 2), normal(2, 3, 2))


def test_non_finite_inputs_give_a_non_finite_update() -> None:
    keys = normal(1, 4, 2)
    keys[0, 0] = float("nan")
    update = least_squares_update(memit_prior(moment(2, 4), 1.0), KeyHistory(), keys, normal(3, 3, 2))
    assert not update.is_finite()
    assert bool(torch.isnan(update.dense()).all())
