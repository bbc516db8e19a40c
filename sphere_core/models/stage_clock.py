"""Seconds by stage of the work on one model: encode, targets, keys, solve, regularizer, write, history and others.

Stages exclude each other: while an inner one runs, the outer one is paused. On an accelerator kernels run behind
the host, so that its clock would charge a stage's work to the stage that happens to wait. There each change of stage
is an event on the device's stream, and nothing is waited for before `lap`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch

__all__ = ["OTHER", "StageClock"]

# Everything outside a named stage.
OTHER = "other"


class _Event(Protocol):
    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: "_Event", /) -> float: ...


class StageClock:
    """Adds up seconds by stage on a device; used by one thread.

    Device seconds are those between events on the stream of `device`, idle time included, so that stages add up to the
    time that has passed. For a model on several accelerators `device` is the first, and work on the others counts
    where the first waits for it.
    """

    def __init__(self, device: torch.device, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called whenever a stage begins or ends."""
        self.device = device
        self._on_change = on_change
        self._stage = OTHER
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, _Event]] = []
        self._since = time.perf_counter()
        if device.type not in ("cpu", "meta"):
            self._note()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge what runs inside the block to a stage, and to the outer stage again after it."""
        outer = self._stage
        self._switch(name)
        try:
            self._on_change()
            yield
        finally:
            self._switch(outer)
            self._on_change()

    def lap(self) -> Mapping[str, float]:
        """Return the seconds of each stage since the last lap, or since the clock was made; waits for the device."""
        self._switch(self._stage)
        if self._events:
            self._events[-1][1].synchronize()
            for (stage, begin), (_, end) in zip(self._events, self._events[1:], strict=False):
                self._seconds[stage] = self._seconds.get(stage, 0.0) + begin.elapsed_time(end) / 1000
            self._events = self._events[-1:]
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _switch(self, name: str) -> None:
        previous, self._stage = self._stage, name
        if self._events:
            self._note()
            return
        now = time.perf_counter()
        self._seconds[previous] = self._seconds.get(previous, 0.0) + now - self._since
        self._since = now

    def _note(self) -> None:
        """Record an event from which the present stage counts."""
        event: _Event = torch.get_device_module(self.device).Event(enable_timing=True)
        event.record()
        self._events.append((self._stage, event))
