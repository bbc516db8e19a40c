"""Seconds and bytes: two forms timed in turn, and the peak memory of a process of its own."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

__all__ = ["Timed", "interleaved", "measured_apart", "relative_difference"]

PlainResult = TypeVar("PlainResult")
OurResult = TypeVar("OurResult")


@dataclass(frozen=True)
class Timed(Generic[PlainResult, OurResult]):
    """Median seconds (published form, our form) and the last result of each."""

    seconds: tuple[float, float]
    plain: PlainResult
    ours: OurResult


def interleaved(
    plain: Callable[[], PlainResult], ours: Callable[[], OurResult], *, repeats: int
) -> Timed[PlainResult, OurResult]:
    """Time the two forms in turn `repeats` times, so that what else the machine does falls on both."""
    if repeats < 1:
        raise ValueError("at least one repeat")
    plain_seconds, our_seconds = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        plain_result = plain()
        middle = time.perf_counter()
        our_result = ours()
        plain_seconds.append(middle - start)
        our_seconds.append(time.perf_counter() - middle)
    return Timed((statistics.median(plain_seconds), statistics.median(our_seconds)), plain_result, our_result)


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return |found - expected| / |expected| in float64, Frobenius norms."""
    wide = expected.double()
    return float(torch.linalg.vector_norm(found.double() - wide) / torch.linalg.vector_norm(wide))


def measured_apart(task: str, rows: int, width: int, *, threads: int) -> dict[str, float]:
    """Run a task of `benchmarks.alone` in a process of its own and return its seconds and GB."""
    command = [sys.executable, "-m", "benchmarks.alone", task, str(rows), str(width), str(threads)]
    repository = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=repository)
    found: dict[str, float] = json.loads(done.stdout)
    return found
