"""B7: two results files beside each other, number by number: what was measured before a change, and after it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["ratios"]

# What tells the records of a part apart; everything else in them that is a number is measured.
_LABELS = {
    "B2": ("groups", "requests per pass", "queries folded", "tokens packed"),
    "B3": ("method", "earlier edits"),
    "B4": ("method", "earlier edits"),
    "B6": ("dtype", "tf32"),
}


def ratios(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a record per number that both files hold: its name, both values, and now over before.

    Records of a part are matched by what they were measured with, not by their place. A number that was 0 before has
    no ratio (None).
    """
    found, earlier = [], dict(_numbers(before))
    for name, value in _numbers(now):
        if name in earlier:
            old = earlier[name]
            found.append({"what": name, "before": old, "now": value, "now / before": value / old if old else None})
    return found


def _numbers(results: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for part in ("B0", "B2", "B3", "B4", "B5", "B6"):
        records = results.get(part, ())
        for record in [records] if isinstance(records, Mapping) else records:
            labels = _LABELS.get(part, ())
            set_by = [f"{name} {record[name]}" for name in labels if name in record]
            measured = {name: value for name, value in record.items() if name not in labels}
            yield from _leaves(measured, [part, *set_by])


def _leaves(record: Mapping[str, Any], path: Sequence[str]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, [*path, name])
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield ", ".join([*path, name]), float(value)
