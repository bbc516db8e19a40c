"""Leading eigenvectors from one tridiagonal form, against the whole decomposition."""

import pytest
import torch
from threadpoolctl import threadpool_info

import sphere_core.numerics.leading_eigen as module
from sphere_core.numerics.leading_eigen import leading_eigen
from sphere_core.numerics.spectrum import principal_directions, principal_rank, singular_subspaces

COUNT = 300


def spectrum(kind: str) -> torch.Tensor:
    """Eigenvalues, descending: spread out, in clusters of equal ones, of low rank, or all alike."""
    spread = torch.logspace(3, -6, COUNT, dtype=torch.float64)
    return {
        "spread": spread,
        "clusters": spread[::20].repeat_interleave(20)[:COUNT],
        "low rank": torch.where(torch.arange(COUNT) < 12, spread, 0),
        "alike": torch.ones(COUNT, dtype=torch.float64),
    }[kind]


def symmetric(values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    return (basis * values) @ basis.T


@pytest.mark.parametrize("kind", ["spread", "clusters", "low rank", "alike"])
@pytest.mark.parametrize("rank", [0, 1, 40, 140, 200])
def test_values_and_spans_are_those_of_the_whole_decomposition(kind: str, rank: int) -> None:
    matrix = symmetric(spectrum(kind))
    values, vectors = leading_eigen(matrix, lambda found: rank)
    expected, whole = torch.linalg.eigh(matrix)
    scale = float(expected[-1])
    assert torch.allclose(values, expected.flip(0), atol=1e-13 * scale, rtol=1e-12)
    assert vectors.shape == (COUNT, rank)
    assert float((vectors.T @ vectors - torch.eye(rank, dtype=torch.float64)).abs().sum()) < 1e-9
    assert float((matrix @ vectors - vectors * values[:rank]).abs().sum()) < 1e-9 * scale
    if rank and float(values[rank - 1] - values[rank]) > 1e-6 * scale:
        leading = whole.flip(1)[:, :rank]
        assert float((vectors @ vectors.T - leading @ leading.T).norm()) < 1e-9


def test_vectors_that_lean_on_each_other_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(module, "symmetric_eigen", lambda matrix: taken.append(1) or torch.linalg.eigh(matrix))
    matrix = symmetric(spectrum("spread"))
    leading_eigen(matrix, lambda _: 5)
    assert taken == []
    monkeypatch.setattr(module, "_ORTHONORMAL", 0.0)
    values, vectors = leading_eigen(matrix, lambda _: 5)
    assert taken == [1]
    assert torch.allclose(matrix @ vectors, vectors * values[:5], atol=1e-10)


def test_threads_are_torchs_inside_and_what_they_were_after() -> None:
    def of_scipy() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if "scipy" in pool["filepath"]]

    before, seen = of_scipy(), []
    torch.set_num_threads(2)
    try:
        leading_eigen(symmetric(spectrum("spread")), lambda _: seen.append(of_scipy()) or 3)
    finally:
        torch.set_num_threads(1)
    assert seen == [[2] * len(before)]
    assert before == of_scipy() != []


@pytest.mark.parametrize("shape", [(260, 400), (400, 260)])
def test_directions_of_a_weight_are_those_of_its_whole_decomposition(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(shape, generator=generator) @ torch.diag(torch.logspace(0, -2, shape[1]))
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    found = singular_subspaces(weight, rank_of=lambda _: 30)
    assert torch.allclose(found.values, values, atol=1e-9)
    assert float((found.left @ found.left.T - left[:, :30] @ left[:, :30].T).norm()) < 1e-8
    assert float((found.right @ found.right.T - right[:30].T @ right[:30]).norm()) < 1e-8
    directions = weight.double() / weight.double().norm(dim=1, keepdim=True)
    squares, vectors = torch.linalg.eigh(directions.T @ directions / len(weight))
    rank = principal_rank(squares.flip(0), 0.5)
    leading = vectors.flip(1)[:, :rank]
    principal = principal_directions(weight, 0.5)
    assert principal.shape[1] == rank
    assert float((principal @ principal.T - leading @ leading.T).norm()) < 1e-9
