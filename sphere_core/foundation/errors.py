"""The one exception for faults that a user can fix, and the nearest valid name for a mistyped one."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator

__all__ = ["InputError", "inside", "nearest_name", "odd_characters", "unknown_name"]


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

    def replaced(self, *, where: str | None = None, remedy: str | None = None) -> "InputError":
        """Return the same error with another place or another remedy."""
        return InputError(self.what, where=where or self.where, remedy=remedy or self.remedy)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries; keyword-only fields would be lost by the default protocol.
        return (_rebuild, (self.what, self.where, self.remedy))


def _rebuild(what: str, where: str | None, remedy: str | None) -> InputError:
    return InputError(what, where=where, remedy=remedy)


@contextlib.contextmanager
def inside(where: str) -> Iterator[None]:
    """Have an InputError raised in the block name `where` it was met, in front of its own place."""
    try:
        yield
    except InputError as error:
        raise error.replaced(where=f"{where}: {error.where}" if error.where else where) from error


def nearest_name(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to `name`, or None if none is close."""
    matches = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, candidates: Iterable[str], *, where: str | None = None) -> InputError:
    """Build the error for a name that is not in a table, with the nearest valid name as its remedy."""
    known = sorted(candidates)
    near = nearest_name(name, known)
    hint = f"did you mean '{near}'? " if near else ""
    odd = odd_characters(name) if near else ""
    return InputError(f"unknown {kind} '{name}'{odd}", where=where, remedy=f"{hint}valid: {', '.join(known)}")


def odd_characters(name: str) -> str:
    """Return the code points of a name that are not plain ASCII, as errors say them, or an empty text: such a character
    may be invisible, or look like another one."""
    odd = dict.fromkeys(f"U+{ord(character):04X}" for character in name if not " " <= character <= "~")
    return f" (it holds {', '.join([*odd][:5])})" if odd else ""
