"""Numbers of one column as text: with the digits that differ, a mean and its spread with the same decimals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MISSING", "Measured", "number_texts"]

MISSING = "–"
_DECIMALS = 3
# More decimals than this are not read any more: a mantissa and an exponent are.
_MOST_DECIMALS = 5
_LARGE = 1e5


@dataclass(frozen=True)
class Measured:
    """A mean with its spread (None: of one value), or in its place a word on why there is none."""

    mean: float | None
    spread: float | None = None
    word: str | None = None


def number_texts(values: Sequence[Measured]) -> list[str]:
    """Return a column's numbers as text.

    Three decimals, or as many more as keep three digits of the largest and one of the smallest; where that takes more
    than five, as where numbers are 100,000 or more, each number has an exponent of its own, shared by its spread.
    """
    sizes = [abs(value.mean) for value in values if value.mean and math.isfinite(value.mean)]
    decimals = max([_DECIMALS, *_wanted_decimals(sizes)])
    if decimals > _MOST_DECIMALS or max(sizes, default=0) >= _LARGE:
        return [_text(value, None) for value in values]
    return [_text(value, decimals) for value in values]


def _wanted_decimals(sizes: Sequence[float]) -> list[int]:
    """Return the decimals that three digits of the largest and one of the smallest take."""
    if not sizes:
        return []
    return [2 - _exponent(max(sizes)), -_exponent(min(sizes))]


def _exponent(size: float) -> int:
    return math.floor(math.log10(size))


def _text(value: Measured, decimals: int | None) -> str:
    if value.word is not None:
        return value.word
    if value.mean is None:
        return MISSING
    parts = [value.mean] if value.spread is None else [value.mean, value.spread]
    if decimals is not None:
        return " ± ".join(f"{part:.{decimals}f}" for part in parts)
    return " ± ".join(_with_exponents(parts))


def _with_exponents(parts: Sequence[float]) -> list[str]:
    """Return a mean and its spread with three digits; small and large ones with the exponent of the larger."""
    size = max((abs(part) for part in parts if math.isfinite(part)), default=0.0)
    if size == 0:
        return [f"{part:.0f}" for part in parts]
    exponent = _exponent(size)
    if -2 <= exponent < 5:
        return [f"{part:.{max(0, 2 - exponent)}f}" for part in parts]
    return [f"{part / 10.0**exponent:.2f}e{exponent:+03d}" for part in parts]
