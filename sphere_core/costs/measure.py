"""The rates of the device at hand, measured in less than a minute: what replaces assumed shares of a data sheet."""

import time
from collections.abc import Callable

import torch

from sphere_core.costs.accelerators import Accelerator
from sphere_core.costs.time import EIGEN
from sphere_core.numerics.placement import device_name, total_memory

__all__ = ["measure_device"]

_ROWS = 1024
# A size is doubled from the first to the last, or until one call takes this long: larger ones are no faster per
# operation.
_LONG = 0.4
_FIRST, _LAST = 256, 8192


def measure_device(device: torch.device, dtype: torch.dtype) -> Accelerator:
    """Return the device with its measured rates, each at the largest of the tried sizes.

    `bf16` is the rate in `dtype` of passes forward and backward through an MLP of random weights, on 1,024 rows;
    `float64` that of products, and decompositions are counted as 9 n^3. Shares are 1: these rates were reached.
    """
    passes, width = _rate(lambda side: _pass(side, device, dtype), device)
    products, _ = _rate(lambda side: _product(side, device), device)
    eigen, side = _rate(lambda side: _eigen(side, device), device)
    name = device_name(device)
    kind = str(dtype).removeprefix("torch.")
    return Accelerator(
        name=name,
        bf16=passes,
        float64=products,
        memory=float(total_memory(device)),
        model_share=1.0,
        solver_share=1.0,
        eigen_share=eigen / products,
        source=f"measured on {name}, {torch.get_num_threads()} threads, torch {torch.__version__}: {kind} passes of "
        f"width {width}, eigh of {side}",
    )


def _rate(make: Callable[[int], tuple[Callable[[], object], float]], device: torch.device) -> tuple[float, int]:
    """Return FLOP/s at the largest size tried, and that size; the first call of each size is not timed."""
    side = _FIRST
    while True:
        run, work = make(side)
        run()
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        seconds = time.perf_counter() - start
        if seconds > _LONG or 2 * side > _LAST:
            return work / seconds, side
        side *= 2


def _pass(side: int, device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    up = torch.randn(4 * side, side, device=device, dtype=dtype)
    down = torch.randn(side, 4 * side, device=device, dtype=dtype)
    hidden = torch.randn(_ROWS, side, device=device, dtype=dtype, requires_grad=True)

    def run() -> object:
        out = torch.nn.functional.linear(torch.nn.functional.silu(torch.nn.functional.linear(hidden, up)), down)
        return torch.autograd.grad(out.sum(), hidden)

    return run, 2.0 * 2 * 2 * _ROWS * 4 * side**2


def _product(side: int, device: torch.device) -> tuple[Callable[[], object], float]:
    matrix = torch.randn(side, side, device=device, dtype=torch.float64)
    return lambda: matrix @ matrix, 2.0 * side**3


def _eigen(side: int, device: torch.device) -> tuple[Callable[[], object], float]:
    matrix = torch.randn(side, side, device=device, dtype=torch.float64)
    gram = matrix @ matrix.T
    return lambda: torch.linalg.eigh(gram), EIGEN * float(side) ** 3


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
