"""Ids by their beginnings: the shortest that names each one, and which one a beginning names."""

from collections.abc import Collection
from itertools import pairwise

from sphere_core.foundation.errors import InputError, unknown_name

__all__ = ["by_prefix", "prefix_length", "prefixed"]

_LEAST = 8
_MOST_CANDIDATES = 10


def prefix_length(ids: Collection[str]) -> int:
    """Return how many characters distinguish all of these ids: eight, or more if eight do not."""
    ordered = sorted(set(ids))
    shared = [_common(one, other) for one, other in pairwise(ordered)]
    return max(_LEAST, max(shared, default=0) + 1)


def prefixed(prefix: str, known: Collection[str]) -> list[str]:
    """Return the ids that a beginning names, in their order: the one that is equal, or all that begin with it."""
    return [prefix] if prefix in known else [one for one in known if prefix and one.startswith(prefix)]


def by_prefix(prefix: str, known: Collection[str], *, kind: str, where: str) -> str:
    """Return the one id that a beginning names; raises InputError if it names none or several."""
    found = prefixed(prefix, known)
    if len(found) > 1:
        listed = ", ".join(found[:_MOST_CANDIDATES]) + (", ..." if len(found) > _MOST_CANDIDATES else "")
        raise InputError(f"'{prefix}' is the beginning of {len(found)} ids", where=where, remedy=f"one of {listed}")
    if not found:
        raise unknown_name(kind, prefix, known, where=where)
    return found[0]


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
