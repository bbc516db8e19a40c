"""Hyperspherical energy: values by hand, the double loop, and what must leave it unchanged."""

import math

import golden
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sphere_core.numerics import energy
from sphere_core.numerics.energy import energy_gradient, hyperspherical_energy, relative_drift
from sphere_core.numerics.preservation import published_constant


def double_loop(weight: torch.Tensor) -> float:
    rows = weight.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i != j:
                total += 1 / np.linalg.norm(rows[i] - rows[j])
    return total


def random_weight(seed: int, rows: int, width: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values_by_hand() -> None:
    # Two antipodal rows are 2 apart: two ordered pairs of 1/2. Lengths do not matter.
    assert hyperspherical_energy(torch.tensor([[3.0, 0.0], [-0.5, 0.0]])).total == pytest.approx(1.0, rel=1e-14)
    # Orthogonal rows are sqrt(2) apart: six ordered pairs of 1/sqrt(2).
    assert hyperspherical_energy(torch.eye(3)).total == pytest.approx(6 / math.sqrt(2), rel=1e-14)
    assert hyperspherical_energy(torch.eye(3)).mean == pytest.approx(1 / math.sqrt(2), rel=1e-14)
    # A regular simplex of three rows in the plane: sides sqrt(3).
    angles = torch.tensor([0.0, 2 * math.pi / 3, 4 * math.pi / 3], dtype=torch.float64)
    simplex = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert hyperspherical_energy(simplex).total == pytest.approx(6 / math.sqrt(3), rel=1e-12)


def test_recorded_value() -> None:
    cases = golden.arrays("linalg")
    found = hyperspherical_energy(torch.from_numpy(cases["hse0_W"])).total
    assert found == pytest.approx(float(cases["hse0_E"]), rel=1e-10)


@pytest.mark.parametrize(("rows", "block"), [(2, 1024), (37, 8), (64, 16), (50, 50), (33, 32)])
def test_blocks_equal_the_double_loop(monkeypatch: pytest.MonkeyPatch, rows: int, block: int) -> None:
    monkeypatch.setattr(energy, "_BLOCK_ROWS", block)
    weight = random_weight(rows, rows, 7)
    assert hyperspherical_energy(weight).total == pytest.approx(double_loop(weight), rel=1e-10)


@given(seed=st.integers(0, 10_000), rows=st.integers(2, 24), width=st.integers(2, 12))
@settings(max_examples=40)
def test_row_order_row_scale_and_rotation_change_nothing(seed: int, rows: int, width: int) -> None:
    weight = random_weight(seed, rows, width)
    generator = torch.Generator().manual_seed(seed + 1)
    expected = hyperspherical_energy(weight).total
    order = torch.randperm(rows, generator=generator)
    scale = torch.rand(rows, 1, generator=generator, dtype=torch.float64) * 10 + 0.1
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    for changed in (weight[order], weight * scale, weight @ rotation):
        assert hyperspherical_energy(changed).total == pytest.approx(expected, rel=1e-9)


def test_coinciding_rows_are_finite_and_counted() -> None:
    found = hyperspherical_energy(torch.tensor([[1.0, 2.0], [2.0, 4.0], [0.0, 1.0]]))
    assert found.clamped == 2
    assert math.isfinite(found.total)
    assert found.total > 1e6


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_collapsed_weight_has_no_energy(bad: float) -> None:
    weight = torch.eye(3)
    weight[1, 2] = bad
    assert math.isnan(hyperspherical_energy(weight).total)


def test_gradient_against_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_BLOCK_ROWS", 4)
    weight, step = random_weight(3, 9, 5), 1e-6
    gradient = energy_gradient(weight)
    for i, j in ((0, 0), (4, 2), (8, 4)):
        shift = torch.zeros_like(weight)
        shift[i, j] = step
        slope = (hyperspherical_energy(weight + shift).total - hyperspherical_energy(weight - shift).total) / (2 * step)
        assert float(gradient[i, j]) == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_drift_is_relative_and_signed() -> None:
    base = hyperspherical_energy(torch.eye(2))
    clumped = hyperspherical_energy(torch.tensor([[1.0, 0.0], [1.0, 0.1]]))
    assert relative_drift(clumped, base) > 0
    assert relative_drift(base, clumped) < 0
    assert relative_drift(base, base) == 0


def test_orthogonal_rows_have_the_energy_that_the_authors_figure_shows() -> None:
    """4096 orthogonal rows: n (n - 1) / sqrt(2), next to the 1.18612e7 read off the figure for unedited Llama-3-8B."""
    small = hyperspherical_energy(torch.eye(64, 80, dtype=torch.float64)).total
    assert small == pytest.approx(64 * 63 / math.sqrt(2), rel=1e-12)
    assert 4096 * 4095 / math.sqrt(2) == pytest.approx(1.18612e7, rel=1e-4)


@pytest.mark.parametrize("rows", [3, 40])
def test_the_published_constant_is_a_looser_bound_than_the_gradient(rows: int) -> None:
    weight = torch.nn.functional.normalize(random_weight(5, rows, 12), dim=1)
    total = 0.0
    for k in range(rows):
        cubes = [float((weight[k] - weight[j]).norm()) ** -3 for j in range(rows) if j != k]
        total += sum(cubes) ** 2
    assert published_constant(weight) == pytest.approx(4 * math.sqrt(total), rel=1e-10)
    assert published_constant(3 * weight) == pytest.approx(published_constant(weight), rel=1e-12)
    assert float(energy_gradient(weight).norm()) <= published_constant(weight)


def test_the_published_constant_of_the_tiny_llama() -> None:
    model = golden.model()
    (site,) = model.open_sites((0,))
    weight = torch.nn.functional.normalize(model.weight(site).double(), dim=1)
    ratio = published_constant(weight) / float(energy_gradient(weight).norm())
    assert ratio == pytest.approx(18, abs=1)
