"""Seconds on a device: it is waited for before and after, and the stages of one run are separate."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

__all__ = ["Stages", "median_seconds", "peak_memory", "wait_for"]


def wait_for(device: torch.device) -> None:
    """Wait until the device has done everything asked of it."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def median_seconds(run: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """Run once to warm up, then `repeats` times; return the median seconds."""
    run()
    found = []
    for _ in range(repeats):
        wait_for(device)
        start = time.perf_counter()
        run()
        wait_for(device)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, float]]:
    """Give the largest number of GB allocated on the device inside, under `gb`; 0 on the host."""
    found = {"gb": 0.0}
    if device.type == "cpu":
        yield found
        return
    module = torch.get_device_module(device)
    module.reset_peak_memory_stats(device)
    yield found
    found["gb"] = module.max_memory_allocated(device) / 1e9


class Stages:
    """Seconds by stage of one run: calls of given functions, each waited for, less what other stages inside took."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._inside = [0.0]

    @contextmanager
    def watching(self, calls: list[tuple[object, str, str]]) -> Iterator[None]:
        """Time every call of (owner, attribute, stage) inside the block."""
        with ExitStack() as stack:
            for owner, attribute, stage in calls:
                stack.enter_context(patch.object(owner, attribute, self._timed(getattr(owner, attribute), stage)))
            yield

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            wait_for(self._device)
            start = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                wait_for(self._device)
                spent = time.perf_counter() - start
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent - self._inside.pop()
                self._inside[-1] += spent

        return call
