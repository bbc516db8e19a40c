"""JSON that a user gives, with errors that name file, line and key."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import SETTINGS_BYTES, read_text

__all__ = ["JsonText", "json_kind", "json_values", "parse_json", "read_json"]

_BLANKS = " \t\n\r"


class _RepeatedKey(ValueError):
    """A key is given twice in one object."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKey(next(name for place, name in enumerate(names) if name in names[:place]))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct)


def read_json(path: Path, *, what: str, at_most: int = SETTINGS_BYTES) -> Any:
    """Return a file's one JSON value; raises InputError if it is missing or malformed, with line and column."""
    return parse_json(read_text(path, what=what, at_most=at_most), where=str(path))


def parse_json(text: str, *, where: str) -> Any:
    """Return the one JSON value of a text.

    A key that is given twice in an object is refused: JSON itself would silently keep the last. Raises InputError.
    """
    source = JsonText(text, where)
    value, end = source.value(source.after_blanks(0))
    if (rest := source.after_blanks(end)) < len(text):
        source.fail("there is more text after the end of the JSON value", rest)
    return value


def json_values(text: str, *, where: str) -> Iterator[tuple[Any, int]]:
    """Yield the items of JSON lists, or the values that follow one another, each with its line.

    JSON lines and objects that are printed over several lines are both of the second form. Lists may follow one
    another, as pages of a service that were written into one file do. Raises InputError.
    """
    source = JsonText(text, where)
    place = source.after_blanks(0)
    if text[place : place + 1] == "[":
        yield from _list_items(source, text, place)
        return
    by_line = True
    while place < len(text):
        value, end = source.value(place, by_line=by_line and place > 0)
        by_line = by_line and "\n" not in text[place:end]
        yield value, source.line(place)
        place = source.after_blanks(end)


def _list_items(source: "JsonText", text: str, place: int) -> Iterator[tuple[Any, int]]:
    """Yield the items of the list that begins at a place and of those that follow it, each with its line."""
    while text[place : place + 1] == "[":
        place = source.after_blanks(place + 1)
        mark = text[place : place + 1]
        while mark != "]":
            value, end = source.value(place)
            yield value, source.line(place)
            place = source.after_blanks(end)
            mark = text[place : place + 1]
            if mark not in (",", "]"):
                source.fail("a comma or the end of the list is expected", min(end, len(text)))
            if mark == ",":
                place = source.after_blanks(place + 1)
        place = source.after_blanks(place + 1)
    if place < len(text):
        source.fail("there is more text after the end of the list", place)


class JsonText:
    """A JSON text and its source, for errors with line and column."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._line, self._upto = 1, 0

    def after_blanks(self, place: int) -> int:
        """Return the next place that holds no blank."""
        text = self._text
        while place < len(text) and text[place] in _BLANKS:
            place += 1
        return place

    def line(self, place: int) -> int:
        """Return the line of a place, 1-based; call it with ascending places."""
        self._line += self._text.count("\n", self._upto, place)
        self._upto = place
        return self._line

    def value(self, place: int, *, by_line: bool = False) -> tuple[Any, int]:
        """Return the value that begins at a place, and where it ends.

        `by_line` says that all values so far took one line each, so that a fault is one of this value's line.
        """
        try:
            return _DECODER.raw_decode(self._text, place)
        except json.JSONDecodeError as error:
            if by_line and (end := self._text.find("\n", place)) > 0 and end < error.pos:
                line = JsonText(self._text[:end], self._where)
                line.fail(*line._fault(place))
            self.fail(error.msg, error.pos, error)
        except _RepeatedKey as error:
            self.fail(f"the key '{error}' is given twice in one object", place, error, "keep one of them")
        except RecursionError as error:
            self.fail("the JSON is nested too deep", place, error)
        except ValueError as error:
            # What is left is an integer of more digits than Python converts.
            self.fail(f"a number cannot be read: {error}", place, error)

    def _fault(self, place: int) -> tuple[str, int]:
        try:
            _DECODER.raw_decode(self._text, place)
        except json.JSONDecodeError as error:
            return error.msg, error.pos
        except ValueError as error:
            return str(error), place
        return "the value does not end in its line", len(self._text)

    def fail(self, what: str, place: int, cause: Exception | None = None, remedy: str | None = None) -> NoReturn:
        """Raise the InputError of a place."""
        line = self._text.count("\n", 0, place) + 1
        column = place - self._text.rfind("\n", 0, place)
        # Of another kind of file altogether, its first characters say more than the parser does.
        start = f", the file begins with {self._text[:20]!r}" if place < 2 and what == "Expecting value" else ""
        fault = what if isinstance(cause, _RepeatedKey) else f"not valid JSON: {what}{start}"
        position = f"{self._where}, line {line}, column {column}"
        raise InputError(fault, where=position, remedy=remedy or _advice(self._text, place)) from cause


def json_kind(value: object) -> str:
    """Return what a value is called in JSON, with its article."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = ((str, "a text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), f"a {type(value).__name__}")


def _advice(text: str, place: int) -> str:
    """Return how to fix the commonest departures from JSON."""
    near = text[max(0, place - 2) : place + 8]
    hints: Iterable[tuple[bool, str]] = (
        (place >= len(text), "the file ends too early: fetch it again"),
        ("//" in near or "/*" in near or near.lstrip().startswith("#"), "take the comment out: JSON has none"),
        ("'" in near, "JSON wants double quotes; a Python dict is written as JSON by json.dump"),
        (_closes_after_a_comma(text, place), "take the comma before the bracket out"),
        (text[place : place + 4] in ("True", "None") or text[place : place + 5] == "False", "write true, false, null"),
    )
    return next((hint for applies, hint in hints if applies), "fix the JSON there")


def _closes_after_a_comma(text: str, place: int) -> bool:
    """Return whether a bracket closes behind a comma: Python points at the bracket, and from 3.13 on at the comma."""
    if text[place : place + 1] == ",":
        return text[place + 1 :].lstrip()[:1] in ("]", "}")
    return text[place : place + 1] in ("]", "}") and text[:place].rstrip().endswith(",")
