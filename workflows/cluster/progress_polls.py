"""Asking actors of Ray how far they are, without waiting for any of them."""

import math
import time
from collections.abc import Mapping
from typing import Any

from workflows.driver.executor import Listener, Worker

__all__ = ["ProgressPolls"]

# How often actors are asked.
_ASK_SECONDS = 0.5


class ProgressPolls:
    """At most one unanswered question per worker. `ray` is the imported module: only the executor imports it."""

    def __init__(self, ray: Any) -> None:
        self.listeners: list[Listener] = []
        self._ray = ray
        self._asked: dict[Any, Worker] = {}
        self._last_asked = -math.inf

    def ask(self, busy: Mapping[Worker, Any]) -> None:
        """Ask the busy actors that have answered the last question; now and then only."""
        now = time.monotonic()
        if now - self._last_asked < _ASK_SECONDS:
            return
        self._last_asked = now
        asked = set(self._asked.values())
        for worker, actor in busy.items():
            if worker not in asked:
                self._asked[actor.progress.remote()] = worker

    def pass_on(self) -> None:
        """Call the listeners with what has been answered."""
        if not self._asked:
            return
        answered, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for reference in answered:
            worker = self._asked.pop(reference)
            try:
                progress = self._ray.get(reference)
            except self._ray.exceptions.RayError:
                continue  # the call that the worker is busy with reports its death
            for listener in self.listeners:
                listener(worker, progress)
