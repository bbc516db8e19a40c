"""Regularizers against independent slow forms: dense, float64, loops."""

import math
from typing import Any

import golden
import numpy as np
import pytest
import torch
from site_parts import NOTHING, OUT, D, normal, plain, site

from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import DenseUpdate, LowRankUpdate
from sphere_core.numerics.spectrum import dominant_rank, singular_subspaces, spectral_norm
from sphere_core.regularizers import NormAnchor, Prune, Rect, Revive
from sphere_core.regularizers.nas import anchor_of


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
