"""The one exception for faults that a user can fix, and the nearest valid name for a mistyped one."""

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "nearest_name", "unknown_name"]


class InputError(Exception):
    """Bad input, found before any work: what is wrong, where, and the remedy."""

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where:  {self.where}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries; keyword-only fields would be lost by the default protocol.
        return (_rebuild, (self.what, self.where, self.remedy))


def _rebuild(what: str, where: str | None, remedy: str | None) -> InputError:
    return InputError(what, where=where, remedy=remedy)


def nearest_name(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to `name`, or None if none is close."""
    matches = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, candidates: Iterable[str], *, where: str | None = None) -> InputError:
    """Build the error for a name that is not in a table, with the nearest valid name as its remedy."""
    known = sorted(candidates)
    near = nearest_name(name, known)
    hint = f"did you mean '{near}'? " if near else ""
    return InputError(f"unknown {kind} '{name}'", where=where, remedy=f"{hint}valid: {', '.join(known)}")
