"""What a card must reach, compared with what was measured: one line per limit and record."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["failed", "verdicts"]

# Seconds of an edit at most, and the aim beyond that; the least share of the card's measured ceiling that the targets'
# passes reach, and the largest share of a batch that everything else may take.
_SECONDS, _AIM = 0.1, 0.06
_CEILING_SHARE = 0.6
_REST_SHARE = 0.15


def verdicts(results: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a record per limit: what, measured, `at most` or `at least`, and `met` for those parts that are there.

    The limits are those of the full setting on a card: `met` is None for the small setting, and for a peak or a share
    that this device does not count. That a method runs, and in B2 the numbers, is judged at any size. A record is
    judged on unrounded numbers.
    """
    judged = results.get("setting") == "full"
    return [*_right(results), *({**record, "met": record["met"] if judged else None} for record in _lines(results))]


def failed(results: Mapping[str, Any]) -> bool:
    """Return whether a method did not run, or targets are not those found in float32; at any size."""
    return any(line["met"] is False for line in _right(results))


def _right(results: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Return whether each method ran, and how far targets are from those found in float32."""
    for name, outcome in results.get("B1", {}).items():
        if not outcome.startswith("skipped"):
            what = f"{name}: two batches"
            yield {"what": what, "measured": outcome, "must be": "", "limit": "ok", "met": outcome == "ok"}
    for record in results.get("B2", ()):
        if "difference from float32" in record:
            yield _at_most("targets, difference from float32", record["difference from float32"], record["at most"])


def _lines(results: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    # The last form of passes is the one that an accelerator is given.
    forms = [record for record in results.get("B2", ()) if "share of the ceiling" in record]
    if forms:
        yield _at_least("targets, share of the measured ceiling", forms[-1]["share of the ceiling"], _CEILING_SHARE)
    for record in results.get("B3", ()):
        where = f"{record['method']} after {record['earlier edits']} edits"
        yield _at_most(f"{where}: seconds per edit", record["seconds per edit"], _SECONDS)
        yield _at_most(f"{where}: seconds per edit, aim", record["seconds per edit"], _AIM)
        yield _at_most(f"{where}: everything but targets, share", 1 - record["share of targets"], _REST_SHARE)
        # A host counts no peak.
        yield _at_most(
            f"{where}: peak, GB, against what doctor predicts", record["peak, GB"] or None, record["predicted peak, GB"]
        )


def _at_most(what: str, measured: float | None, limit: float) -> dict[str, object]:
    return _line(what, measured, "at most", limit, measured is not None and measured <= limit)


def _at_least(what: str, measured: float | None, limit: float) -> dict[str, object]:
    return _line(what, measured, "at least", limit, measured is not None and measured >= limit)


def _line(what: str, measured: float | None, bound: str, limit: float, met: bool) -> dict[str, object]:
    return {
        "what": what,
        "measured": measured,
        "must be": bound,
        "limit": limit,
        "met": None if measured is None else met,
    }
