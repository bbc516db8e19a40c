"""Bounds on what a template may make: sizes are known, or refused, before the value is."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import TemplateRuntimeError

__all__ = [
    "FILTER_SIZES",
    "MAX_SIZE",
    "MAX_STEPS",
    "TemplateLimitError",
    "checked_filter",
    "measure",
    "require_bits",
    "require_method",
    "require_narrow",
    "require_product",
    "require_size",
]

# Bounds on one rendering: values made or read (long ones count more), and characters or items in one value or text.
MAX_STEPS = 200_000
MAX_SIZE = 1_000_000
_MAX_BITS = 1 << 14
_MAX_DIGITS = 100
_SIZED = (list, tuple, dict, set, frozenset, range)


class TemplateLimitError(TemplateRuntimeError):
    """A template that takes more steps, or makes larger values, than any task needs."""


def measure(value: object) -> int:
    """Return how many characters or items a value has, those inside it counted as often as they are shown.

    Raises TemplateLimitError beyond MAX_SIZE, and for an integer of more digits than any task has.
    """
    size = _size(value, {})
    if size > MAX_SIZE:
        raise TemplateLimitError(f"a value of a template is larger than {MAX_SIZE} characters or items")
    return size


def _size(value: object, known: dict[int, int]) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        require_bits(value.bit_length())
        return 1
    if not isinstance(value, _SIZED):
        return 1
    if isinstance(value, range):
        return len(value)
    if id(value) not in known:
        inside = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 0
        known[id(value)] = min(1 + sum(_size(item, known) for item in inside), MAX_SIZE + 1)
    return known[id(value)]


def require_product(left: Any, right: Any) -> None:
    """Refuse a product of numbers, or of a text or list with a number, that would be too large."""
    if isinstance(left, int) and isinstance(right, int):
        require_bits(left.bit_length() + right.bit_length())
        return
    sized, times = (right, left) if isinstance(left, int) else (left, right)
    if isinstance(times, int) and isinstance(sized, str | bytes | list | tuple):
        require_size(measure(sized) * times)


def require_method(owner: str, method: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a call of a method of texts that would make far more than it is given; return its arguments."""
    if method in ("ljust", "rjust", "center", "zfill", "expandtabs") and args and isinstance(args[0], int):
        require_size(args[0] * (max(1, len(owner)) if method == "expandtabs" else 1))
    elif method == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        require_size(len(owner) + (owner.count(args[0]) if args[0] else len(owner) + 1) * len(args[1]))
    elif method == "translate" and args and isinstance(args[0], dict):
        require_size(len(owner) * max((len(str(item)) for item in args[0].values()), default=1))
    elif method == "join" and args:
        items = list(args[0])
        require_size(len(owner) * len(items) + measure(items))
        return (items, *args[1:])
    return args


def checked_filter(function: Callable[..., Any], result_size: Callable[[dict[str, Any]], int]) -> Callable[..., Any]:
    """Return a filter that is refused before it makes far more than it is given."""
    signature = inspect.signature(function)
    # Filters that have an asynchronous form too are given a context that they leave out before the work.
    left_out = hasattr(function, "jinja_pass_arg") and not hasattr(inspect.unwrap(function), "jinja_pass_arg")

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        context = args[:1] if left_out else ()
        bound = signature.bind(*args[len(context) :], **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if isinstance(value, Iterator):
                bound.arguments[name] = list(value)
        require_size(result_size(bound.arguments))
        return function(*context, *bound.args, **bound.kwargs)

    return checked


def _joined_size(given: dict[str, Any]) -> int:
    items = given["value"]
    return measure(items) + (len(items) if isinstance(items, _SIZED) else 0) * len(str(given["d"]))


def _replaced_size(given: dict[str, Any]) -> int:
    text, old, new = (str(given[name]) for name in ("s", "old", "new"))
    return len(text) + (text.count(old) if old else len(text) + 1) * len(new)


def _indented_size(given: dict[str, Any]) -> int:
    width = given["width"]
    return (str(given["s"]).count("\n") + 1) * (width if isinstance(width, int) else len(str(width)))


def _formatted_size(given: dict[str, Any]) -> int:
    require_narrow(str(given["value"]), [*given["args"], *given["kwargs"].values()], marks="*")
    return 0


# How large the result of a filter would be, by its arguments, for those that can make much out of little.
FILTER_SIZES: dict[str, Callable[[dict[str, Any]], int]] = {
    "batch": lambda given: int(given["linecount"]),
    "center": lambda given: int(given["width"]),
    "format": _formatted_size,
    "indent": _indented_size,
    "join": _joined_size,
    "replace": _replaced_size,
    "round": lambda given: abs(int(given["precision"])) * (MAX_SIZE // _MAX_DIGITS),
    "slice": lambda given: int(given["slices"]),
    "tojson": lambda given: measure(given["value"]) * (1 + int(given["indent"] or 0)),
    "truncate": lambda given: len(str(given["end"])),
    "wordwrap": lambda given: len(str(given["s"])) * len(given["wrapstring"] or "\n"),
}


def require_narrow(text: str, given: Iterable[Any], *, marks: str) -> None:
    """Refuse a format whose widths are beyond any text, whether it has them or takes them from its arguments."""
    widths = [int(number[:10]) for number in re.findall(r"\d+", text)]
    from_arguments = "*" in text if marks == "*" else re.search(r"\{[^{}]*\{", text) is not None
    if from_arguments:
        widths += [abs(item) for item in given if isinstance(item, int)]
    require_size(max(widths, default=0))


def require_size(size: int) -> None:
    """Raise TemplateLimitError for more characters or items than a value may have."""
    if size > MAX_SIZE:
        raise TemplateLimitError(
            f"a value of a template would have {size} characters or items; {MAX_SIZE} are the most"
        )


def require_bits(bits: int) -> None:
    """Raise TemplateLimitError for a longer integer than any task needs."""
    if bits > _MAX_BITS:
        raise TemplateLimitError(f"a number of a template would have {bits} bits; {_MAX_BITS} are the most")
