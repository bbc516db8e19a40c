"""Seconds and bytes: two forms timed in turn, and the peak memory of a process of its own."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar

import torch

__all__ = ["Timed", "interleaved", "measured_apart", "relative_difference"]

PlainResult = TypeVar("PlainResult")
OurResult = TypeVar("OurResult")


@dataclass(frozen=True)
class Timed(Generic[PlainResult, OurResult]):
    """Median seconds (published form, our form) and the last result of each.

    `seconds` are of the processor, user and system: what else the machine does hardly changes them. `wall` has passed.
    """

    seconds: tuple[float, float]
    wall: tuple[float, float]
    plain: PlainResult
    ours: OurResult


def interleaved(
    plain: Callable[[], PlainResult], ours: Callable[[], OurResult], *, repeats: int
) -> Timed[PlainResult, OurResult]:
    """Time the two forms in turn `repeats` times, so that what else the machine does falls on both."""
    if repeats < 1:
        raise ValueError("at least one repeat")
    readings: list[tuple[tuple[float, float], ...]] = []
    for _ in range(repeats):
        start = _now()
        plain_result = plain()
        middle = _now()
        our_result = ours()
        readings.append((start, middle, _now()))

    def medians(clock: int) -> tuple[float, float]:
        spent = [tuple(after[clock] - before[clock] for before, after in pairwise(reading)) for reading in readings]
        return statistics.median(form[0] for form in spent), statistics.median(form[1] for form in spent)

    return Timed(medians(0), medians(1), plain_result, our_result)


def _now() -> tuple[float, float]:
    """Return processor seconds of this process, and the time."""
    return time.process_time(), time.perf_counter()


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
