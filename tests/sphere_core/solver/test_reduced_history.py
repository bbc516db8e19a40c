"""Histories longer than half of the width: the same step as the slow dense solve, at any length, with equal bits."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from site_parts import normal

from sphere_core.checkpoints import EditorState
from sphere_core.numerics.linalg import Subspace
from sphere_core.numerics.tensor_file import read_tensors, write_tensors
from sphere_core.solver import KeyHistory, MomentPrior, NullSpacePrior, Prior, least_squares_update, reduced_history

WIDTH = 12


def prior_of(kind: str, seed: int) -> tuple[Prior, torch.Tensor, torch.Tensor]:
    """Return a prior with its projector P and precision Pi, so that A X = P K is (P gram + Pi) X = P K."""
    samples = normal(seed, WIDTH, 3 * WIDTH)
    second = samples @ samples.T / samples.shape[1]
    if kind == "moment":
        identity = torch.eye(WIDTH, dtype=torch.float64)
        return MomentPrior(second, weight=3.0, ridge=0.1, width=WIDTH), identity, 3.0 * second + 0.1 * identity
    vectors = torch.linalg.eigh(second).eigenvectors
    thin = Subspace(vectors[:, :5], complement=False) if kind == "thin" else Subspace(vectors[:, 5:], complement=True)
    projector = vectors[:, :5] @ vectors[:, :5].T
    return NullSpacePrior(thin, 0.7), projector, 0.7 * torch.eye(WIDTH, dtype=torch.float64)


@given(
    seed=st.integers(0, 99),
    kind=st.sampled_from(["moment", "thin", "complement"]),
    counts=st.lists(st.integers(1, 8), min_size=3, max_size=9),
    weight=st.sampled_from([1.0, 0.25, 3.0]),
)
@settings(max_examples=60)
def test_every_step_is_that_of_the_dense_system(seed: int, kind: str, counts: list[int], weight: float) -> None:
    prior, projector, precision = prior_of(kind, seed)
    history, gram, total = KeyHistory(), torch.zeros(WIDTH, WIDTH, dtype=torch.float64), 0
    for batch, count in enumerate(counts):
        keys, residuals = normal(seed + batch, WIDTH, count).float(), normal(seed + 50 + batch, 3, count)
        wide = keys.double()
        slow = torch.linalg.solve(projector @ (gram + wide @ wide.T) + precision, projector @ wide)
        found = least_squares_update(prior, history, keys, residuals).dense() if weight == 1 else None
        weighted = least_squares_update(prior, history, keys, residuals, history_weight=weight).dense()
        assert torch.allclose(weighted, residuals @ slow.T, rtol=1e-9, atol=1e-11)
        assert found is None or torch.equal(found, weighted)
        history = history.append(keys, prior=prior, weight=weight)
        gram, total = gram + weight * wide @ wide.T, total + count
        assert (history.reduction is not None) == (2 * total >= WIDTH)
        if history.reduction is not None:
            assert history.state().keys() == {"reduction.symmetric"}
            assert torch.equal(history.reduction, history.reduction.T)


def test_rounding_does_not_build_up_over_many_batches() -> None:
    prior, _, precision = prior_of("moment", 1)
    history, gram = KeyHistory(), torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    for batch in range(400):
        keys = normal(batch, WIDTH, 5)
        slow = torch.linalg.solve(gram + keys @ keys.T + precision, keys)
        found = least_squares_update(prior, history, keys, torch.eye(5, dtype=torch.float64)).dense().T
        assert float((found - slow).norm() / slow.norm()) < 1e-11
        history, gram = history.append(keys, prior=prior), gram + keys @ keys.T


@pytest.mark.parametrize("block", [1, 5, 1024])
def test_blocks_change_no_more_than_rounding_and_stay_symmetric(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    prior, _, _ = prior_of("complement", 2)
    whole = KeyHistory().append(normal(0, WIDTH, 7), prior=prior).append(normal(1, WIDTH, 2), prior=prior).reduction
    monkeypatch.setattr(reduced_history, "_BLOCK", block)
    found = KeyHistory().append(normal(0, WIDTH, 7), prior=prior).append(normal(1, WIDTH, 2), prior=prior).reduction
    assert whole is not None
    assert found is not None
    assert torch.allclose(found, whole, rtol=1e-12, atol=1e-14)
    assert torch.equal(found, found.T)


def test_a_resumed_history_gives_equal_bits(tmp_path: Path) -> None:
    prior, _, _ = prior_of("moment", 3)
    history = KeyHistory().append(normal(0, WIDTH, 4), prior=prior).append(normal(1, WIDTH, 4), prior=prior)
    write_tensors(history.state(), tmp_path / "state")
    read = KeyHistory.of(EditorState(read_tensors((tmp_path / "state").read_bytes())))
    one, other = (h.append(normal(2, WIDTH, 3), prior=prior).reduction for h in (history, read))
    assert one is not None
    assert other is not None
    assert torch.equal(one, other)


def test_a_window_a_missing_prior_and_a_system_that_is_required_keep_the_keys() -> None:
    prior, _, _ = prior_of("moment", 4)
    keys = normal(0, WIDTH, 8)
    assert KeyHistory().append(keys, prior=prior, window=9).columns is not None
    assert KeyHistory().append(keys).columns is not None
    kept = KeyHistory().append(keys, prior=prior, reduces=False)
    assert kept.factor is not None
    assert kept.append(keys, prior=prior, reduces=False).gram is not None
    reduced = KeyHistory().append(keys, prior=prior)
    for ask in (reduced.columns_with, reduced.gram_with):
        with pytest.raises(ValueError, match="reduced coordinates"):
            ask(keys, 1.0)


def test_keys_that_are_not_finite_give_an_update_that_is_not_finite() -> None:
    prior, _, _ = prior_of("moment", 5)
    history = KeyHistory().append(normal(0, WIDTH, 8), prior=prior)
    bad = torch.full((WIDTH, 2), torch.nan)
    assert least_squares_update(prior, history, bad, normal(1, 3, 2)).dense().isnan().all()
    after = history.append(bad, prior=prior).reduction
    assert after is not None
    assert after.isnan().all()
