"""What geometry costs a site, in processor seconds of one thread: a busy machine gives the figures of an idle one."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch

from benchmarks.rows import Row
from evaluators.geometry.site import Groups, measure_base, measure_site
from sphere_core.numerics.energy import hyperspherical_energy

__all__ = ["SHAPES", "measure", "measure_shape"]

SHAPES = ((768, 3072), (4096, 14336))
Result = TypeVar("Result")


def measure(threads: int) -> list[Row]:
    """Return the rows of this benchmark, whatever `threads` is: every group of figures at each shape."""
    torch.set_num_threads(1)
    try:
        return [row for shape in SHAPES for row in measure_shape(*shape)]
    finally:
        torch.set_num_threads(threads)


def measure_shape(rows: int, width: int) -> list[Row]:
    """Time each group on a random weight `[rows, width]` with a full second moment."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, width, generator=generator)
    edited = weight + 0.05 * torch.randn(rows, width, generator=generator)
    moment = torch.eye(width, dtype=torch.float64) + 1 / width
    none, bound, spectra = _groups(), _groups(bound=True), _groups(spectra=True)
    energy, energy_seconds = _timed(lambda: hyperspherical_energy(edited))
    found = [("energy", energy_seconds)]
    for name, groups, given in (
        ("norms of rows and change", none, None),
        ("bound, orthonormal inputs", bound, None),
        ("bound, orthonormal inputs and C0", bound, moment),
        ("spectra and subspaces", spectra, None),
    ):
        base, once = _timed(lambda groups=groups, given=given: measure_base(weight, given, groups))
        _, each = _timed(lambda groups=groups, base=base: measure_site(edited, weight, base, energy, groups))
        found += [(f"{name}; the unedited weight, once", once - energy_seconds), (f"{name}; a checkpoint", each)]
    setting = f"{rows} x {width} fp32, in fp64; one thread, processor time"
    return [Row(f"geometry: {what}", setting, max(seconds, 0.0), "s") for what, seconds in found]


def _groups(*, bound: bool = False, spectra: bool = False) -> Groups:
    return Groups(bound=bound, spectra=spectra, subspace_threshold=0.1, subspace_energy="sum", principal_ratio=0.5)


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start
