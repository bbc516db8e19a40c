"""SPHERE's projection: spectrum, rank rule, both sides of the Gram matrix, and the two bases."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from site_parts import normal
from tiny_models import tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import DenseUpdate, LowRankUpdate, damp_directions
from sphere_core.numerics.spectrum import principal_directions, principal_rank
from sphere_core.regularizers import Sphere


def dense_directions(weight: torch.Tensor, ratio: float) -> torch.Tensor:
    """The published form: the full second moment of the rows, decomposed whole."""
    rows = weight / weight.norm(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh(rows.T @ rows / rows.shape[0])
    values, vectors = values.flip(0), vectors.flip(1)
    total, share, rank = float(values.sum()), 0.0, 0
    for value in values:
        share += float(value) / total
        rank += 1
        if share > ratio:
            break
    return vectors[:, :rank]


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(3, 14),
    width=st.integers(3, 14),
    ratio=st.floats(0.05, 0.9),
    strength=st.floats(0, 1),
)
@settings(max_examples=60)
def test_projector_against_the_dense_form(seed: int, rows: int, width: int, ratio: float, strength: float) -> None:
    weight = normal(seed, rows, width)
    directions = principal_directions(weight, ratio)
    expected = dense_directions(weight, ratio)
    identity = torch.eye(width, dtype=torch.float64)
    projector = damp_directions(identity, directions, strength)
    assert torch.allclose(projector, identity - strength * expected @ expected.T, atol=1e-8)
    assert torch.allclose(projector, projector.T, atol=1e-10)
    eigenvalues = torch.linalg.eigvalsh(projector)
    near_damped = (eigenvalues - (1 - strength)).abs() < 1e-8
    near_one = (eigenvalues - 1).abs() < 1e-8
    assert bool((near_damped | near_one).all())
    if strength > 1e-6:
        assert int((near_damped & ~near_one).sum()) == directions.shape[1]


def test_ends_of_the_strength() -> None:
    weight, rows = normal(1, 6, 9), normal(2, 4, 9)
    directions = principal_directions(weight, 0.5)
    assert torch.equal(damp_directions(rows, directions, 0.0), rows)
    once = damp_directions(rows, directions, 1.0)
    assert torch.allclose(damp_directions(once, directions, 1.0), once, atol=1e-12)
    assert torch.allclose(once @ directions, torch.zeros(4, directions.shape[1], dtype=torch.float64), atol=1e-12)


def test_the_share_must_exceed_the_ratio() -> None:
    eigenvalues = torch.tensor([0.5, 0.25, 0.25])
    assert principal_rank(eigenvalues, 0.49) == 1
    assert principal_rank(eigenvalues, 0.5) == 2  # exactly reached: the released rule takes one more
    assert principal_rank(eigenvalues, 0.0) == 1
    assert principal_rank(eigenvalues, 1.0) == 3


def test_low_rank_and_dense_updates_agree() -> None:
    directions = principal_directions(normal(3, 5, 8), 0.5)
    update = LowRankUpdate(normal(4, 5, 2), normal(5, 8, 2))
    dense = DenseUpdate(update.dense()).damped(directions, 0.7).dense()
    assert torch.allclose(update.damped(directions, 0.7).dense(), dense, atol=1e-12)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_basis_follows_the_weight_or_stays_with_the_unedited_one(family: str) -> None:
    model = tiny_model(family)
    (site,) = model.open_sites([1])
    update = DenseUpdate(normal(6, site.d_out, site.d_in))
    current = Sphere(energy_ratio=0.5, strength=0.8, basis="current")
    pretrained = Sphere(energy_ratio=0.5, strength=0.8, basis="pretrained")
    nothing = torch.zeros(0, 0)
    state = EditorState()
    fresh = SiteWrite(site, nothing, nothing, model.weight(site), model.base_weight(site))
    before = current.apply(update, fresh, state).dense()
    assert torch.equal(before, pretrained.apply(update, fresh, state).dense())
    edited = replace(fresh, weight=normal(7, site.d_out, site.d_in).float())
    assert torch.equal(before, pretrained.apply(update, edited, state).dense())
    assert not torch.allclose(before, current.apply(update, edited, state).dense(), atol=1e-3)


def test_a_collapsed_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="non-finite"):
        principal_directions(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), 0.5)
