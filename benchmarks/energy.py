"""Hyperspherical energy: a large weight in a process of its own, and a double loop over rows on a small one."""

import torch

from benchmarks.rows import Row
from benchmarks.timing import measured_apart
from sphere_core.numerics.energy import hyperspherical_energy

__all__ = ["double_loop", "measure", "worst_difference"]

SMALL_SHAPES = ((2, 3), (17, 5), (60, 24))


def double_loop(weight: torch.Tensor) -> float:
    """Return the sum over ordered pairs of rows of 1 / |w^_i - w^_j|, pair by pair in float64."""
    rows = [row / row.norm() for row in weight.double()]
    pairs = ((i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j)
    return sum(1 / float((rows[i] - rows[j]).norm()) for i, j in pairs)


def worst_difference() -> float:
    """Return the largest relative difference between the blocked form and the double loop on small weights."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator) for shape in SMALL_SHAPES]
    return max(abs(hyperspherical_energy(weight).total / double_loop(weight) - 1) for weight in weights)


def measure(threads: int) -> list[Row]:
    """Return the rows of this benchmark."""
    alone = measured_apart("energy", 4096, 14336, threads=threads)
    setting = "4096 x 14336 fp32, in fp64; a process of its own"
    return [
        Row(
            "hyperspherical energy: time",
            setting,
            alone["seconds"],
            "s",
            20,
            difference=worst_difference(),
            tolerance=1e-10,
        ),
        Row("hyperspherical energy: memory beyond the weight", setting, alone["beyond"], "GB", 1),
    ]
