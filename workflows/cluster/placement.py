"""How many replicas the nodes of a cluster can hold, and why they hold none. Uses only Ray's label syntax.

A replica runs on one node: what counts is what each node has, not the sum over the cluster.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Need", "Node", "matches", "room", "why_none"]

_LIST = re.compile(r"^(!?)in\((.*)\)$")


@dataclass(frozen=True)
class Node:
    """A live node: its name, its total resources by Ray's names (CPU, GPU), and its labels."""

    name: str
    has: Mapping[str, float]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Need:
    """What one replica reserves, and the labels its node must have, in Ray's syntax."""

    amounts: Mapping[str, float]
    labels: Mapping[str, str]

    def __str__(self) -> str:
        parts = [f"{amount:g} {name}" for name, amount in self.amounts.items()]
        return ", ".join(parts + [f"label {key}={value}" for key, value in self.labels.items()])


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether a node's labels satisfy a selector: `value`, `!value`, `in(a,b)` or `!in(a,b)` for each key."""
    for key, wanted in selector.items():
        found = _LIST.match(wanted)
        if found is not None:
            negated, values = bool(found[1]), {value.strip() for value in found[2].split(",")}
        else:
            negated, values = wanted.startswith("!"), {wanted.removeprefix("!")}
        if (labels.get(key) in values) == negated:
            return False
    return True


def room(nodes: Sequence[Node], need: Need, *, beside: Need, count: int) -> int:
    """Return how many replicas of one kind fit on the nodes together with `count` of another kind.

    The others are placed first, each where it takes the fewest places of ours; those that fit nowhere are left out.
    """
    free = [dict(node.has) for node in nodes]
    ours = [matches(need.labels, node.labels) for node in nodes]
    theirs = [matches(beside.labels, node.labels) for node in nodes]
    for _ in range(count):
        costs = [
            (_slots(has, need) - _slots(_less(has, beside), need) if ours[place] else 0, place)
            for place, has in enumerate(free)
            if theirs[place] and _slots(has, beside)
        ]
        if not costs:
            break
        place = min(costs)[1]
        free[place] = _less(free[place], beside)
    return sum(_slots(has, need) for has, mine in zip(free, ours, strict=True) if mine)


def why_none(nodes: Sequence[Node], need: Need) -> str:
    """Return what is required and what each node has, for a replica that no node can hold."""
    has = [f"{node.name}: {_summary(node, need)}" for node in nodes]
    return f"no node can hold a replica: one needs {need}. Nodes: {'; '.join(has) or 'none'}"


def _summary(node: Node, need: Need) -> str:
    parts = [f"{node.has.get(name, 0):g} {name}" for name in need.amounts]
    return ", ".join(parts + [f"{key}={node.labels.get(key, 'unset')}" for key in need.labels])


def _slots(has: Mapping[str, float], need: Need) -> int:
    asked = {name: amount for name, amount in need.amounts.items() if amount > 0}
    # Ray keeps fractions to four digits; three thirds must still make a whole.
    fits = [math.floor(has.get(name, 0.0) / amount + 1e-9) for name, amount in asked.items()]
    return max(0, min(fits, default=1))


def _less(has: Mapping[str, float], need: Need) -> dict[str, float]:
    return {**has, **{name: has.get(name, 0.0) - amount for name, amount in need.amounts.items()}}
