"""B0: what the card does at best: products, copies, decompositions, transfers, hashing, launches."""

import hashlib
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.gpu.clock import median_seconds, wait_for
from benchmarks.gpu.setting import Setting

__all__ = ["measure"]


def measure(setting: Setting, device: torch.device) -> dict[str, float]:
    """Return rates in TFLOP/s and GB/s, seconds of decompositions and microseconds of one launch."""
    side, width, rows = setting.square, setting.intermediate, setting.hidden
    found: dict[str, float] = {}

    def seconds(run: Callable[[], object], repeats: int = setting.repeats) -> float:
        return median_seconds(run, device, repeats=repeats)

    low = torch.randn(side, side, device=device, dtype=setting.dtype)
    found["product, model's dtype, TFLOP/s"] = 2 * side**3 / seconds(lambda: low @ low) / 1e12
    found["copy, GB/s"] = 2 * low.numel() * low.element_size() / seconds(low.clone) / 1e9
    wide = torch.randn(rows, rows, device=device, dtype=torch.float64)
    found["product, float64, TFLOP/s"] = 2 * rows**3 / seconds(lambda: wide @ wide) / 1e12
    gram = wide @ wide.T
    found[f"eigh {rows}, float64, s"] = seconds(partial(torch.linalg.eigh, gram), 1)
    found[f"eigh {rows}, float32, s"] = seconds(partial(torch.linalg.eigh, gram.float()), 1)
    system = _definite(width, device)
    found[f"Cholesky {width}, float64, s"] = seconds(partial(torch.linalg.cholesky, system), 1)
    factor, keys = torch.linalg.cholesky(system), torch.randn(width, setting.batch, device=device, dtype=torch.float64)
    found[f"triangular solve {width}, float64, s"] = seconds(
        partial(torch.linalg.solve_triangular, factor, keys, upper=False)
    )
    wait_for(device)
    start = time.perf_counter()
    torch.linalg.eigh(system)
    wait_for(device)
    found[f"eigh {width}, float64, s"] = time.perf_counter() - start
    found |= _transfers(low, device, setting.repeats)
    small = torch.zeros(1, device=device)
    launched = seconds(lambda: [small.add_(1) for _ in range(setting.launches)], 1)
    found["launch, us"] = 1e6 * launched / setting.launches
    return found


def _definite(width: int, device: torch.device) -> torch.Tensor:
    samples = torch.randn(width, width, device=device, dtype=torch.float64)
    system = samples @ samples.T / width
    system.diagonal().add_(1)
    return system


def _transfers(tensor: torch.Tensor, device: torch.device, repeats: int) -> dict[str, float]:
    size = tensor.numel() * tensor.element_size() / 1e9
    host = tensor.cpu()
    data = host.view(torch.uint8).numpy().tobytes()
    start = time.perf_counter()
    hashlib.sha256(data)
    found = {"sha256, GB/s": size / (time.perf_counter() - start)}
    found["to the host, pageable, GB/s"] = size / median_seconds(tensor.cpu, device, repeats=repeats)
    if device.type != "cpu":
        pinned = torch.empty_like(host, pin_memory=True)
        found["to the host, pinned, GB/s"] = size / median_seconds(
            lambda: pinned.copy_(tensor), device, repeats=repeats
        )
    return found
