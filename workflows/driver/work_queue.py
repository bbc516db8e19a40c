"""A queue of items in groups, one per model: an item on a given model is found without a search through all."""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["WorkQueue"]

Item = TypeVar("Item")


class WorkQueue(Generic[Item]):
    """Items in the order in which they were put; taking one costs the logarithm of their number, times at most the
    number of groups."""

    def __init__(self) -> None:
        # One heap per group: (place in line, arrival, item); an arrival is unique, so items are never compared.
        self._heaps: dict[Hashable, list[tuple[int, int, Item]]] = {}
        self._arrivals = 0
        self._front = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, item: Item, group: Hashable, place: int | None = None) -> None:
        """Put an item at its place in the order; without one, after all others."""
        self._arrivals += 1
        line = self._heaps.setdefault(group, [])
        heapq.heappush(line, (self._arrivals if place is None else place, self._arrivals, item))
        self._length += 1

    def put_first(self, item: Item, group: Hashable) -> None:
        """Put an item before all others."""
        self._front -= 1
        self.put(item, group, self._front)

    def take(self, group: Hashable) -> Item | None:
        """Take the first item of a group, or, if it has none, the first of all; None if the queue is empty."""
        if not self._length:
            return None
        if group not in self._heaps:
            group = min(self._heaps, key=lambda name: self._heaps[name][0][:2])
        line = self._heaps[group]
        _, _, item = heapq.heappop(line)
        if not line:
            del self._heaps[group]
        self._length -= 1
        return item
