"""Balance against the whole singular value decomposition."""

import pytest
import torch
from site_parts import NOTHING, OUT, D, normal, plain

from sphere_core.numerics.linalg import DenseUpdate, LowRankUpdate, Update
from sphere_core.regularizers import Balance


def low_rank(seed: int, rank: int) -> LowRankUpdate:
    return LowRankUpdate(normal(seed, OUT, rank), normal(seed + 1, D, rank) * torch.logspace(0, -3, rank).double())


UPDATES = {
    "low-rank": low_rank(1, 3),
    "as wide as the weight": low_rank(3, OUT),
    "wider": low_rank(5, D + 2),
    "dense": DenseUpdate(normal(7, OUT, D)),
    "tall": DenseUpdate(normal(8, D, OUT)),
    "deficient": DenseUpdate(low_rank(9, 2).dense()),
}


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_against_the_whole_svd(update: Update, strength: float) -> None:
    matrix = update.dense()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((values > 1e-6 * values[0]).sum())
    shaped = values[:rank] ** (1 - strength)
    shaped = shaped * values[:rank].norm() / shaped.norm()
    found = Balance(strength=strength).apply(update, plain(matrix), NOTHING).dense()
    assert torch.allclose(found, left[:, :rank] @ torch.diag(shaped) @ right[:rank], atol=1e-8)
    assert float(found.norm()) == pytest.approx(float(matrix.norm()), rel=1e-9)


def test_all_singular_values_are_one_number_at_full_strength_and_the_update_stays_low_rank() -> None:
    found = Balance(strength=1.0).apply(low_rank(1, 3), plain(normal(0, OUT, D)), NOTHING)
    assert isinstance(found, LowRankUpdate)
    values = torch.linalg.svdvals(found.dense())
    assert torch.allclose(values[:3], values[0].expand(3), rtol=1e-9)
    assert float(values[3]) < 1e-9 * float(values[0])


def test_rounding_is_not_raised() -> None:
    """A direction at the precision of fp32 keys must not become as large as the others."""
    left, right = torch.linalg.qr(normal(1, OUT, 2)).Q, torch.linalg.qr(normal(2, D, 2)).Q
    found = Balance(strength=1.0).apply(
        LowRankUpdate(left * torch.tensor([1.0, 1e-8], dtype=torch.float64), right), plain(normal(0, OUT, D)), NOTHING
    )
    assert float((left[:, 1] @ found.dense()).norm()) < 1e-9


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_nothing_and_what_is_not_finite_are_passed_on(bad: float) -> None:
    weight = plain(normal(0, OUT, D))
    for update in (DenseUpdate(torch.full((OUT, D), bad)), LowRankUpdate(torch.zeros(OUT, 2), torch.zeros(D, 2))):
        assert Balance(strength=1.0).apply(update, weight, NOTHING) is update
    nothing = DenseUpdate(torch.zeros(OUT, D, dtype=torch.float64))
    assert not Balance(strength=1.0).apply(nothing, weight, NOTHING).dense().any()
