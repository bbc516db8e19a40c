"""Numbers of one column: the digits that differ are there, a mean and its spread have the same decimals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.terminal.numbers import Measured, number_texts

SIZES = st.floats(min_value=1e-12, max_value=1e12)


def of(*pairs: float | tuple[float, float] | None) -> list[str]:
    return number_texts([Measured(*(pair if isinstance(pair, tuple) else (pair,))) for pair in pairs])


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.0, 0.9124, 0.36), ["0.000", "0.912", "0.360"]),
        (((0.36, 0.00282), (1.0, 0.0)), ["0.360 ± 0.003", "1.000 ± 0.000"]),
        ((0.0, 0.0314, 0.0047), ["0.0000", "0.0314", "0.0047"]),
        ((1.23e-6, 2.5e-6), ["1.23e-06", "2.50e-06"]),
        (((1.234e-6, 4.5e-8), (0.0, 0.0)), ["1.23e-06 ± 0.04e-06", "0 ± 0"]),
        ((1.0, 2.27e-13, 0.0312), ["1.00", "2.27e-13", "0.0312"]),
        ((10.842, 2.935), ["10.842", "2.935"]),
        ((3.5e7, 12.0), ["3.50e+07", "12.0"]),
        ((None, 0.5), ["–", "0.500"]),
        ((-0.717, 0.05), ["-0.717", "0.050"]),
        ((math.inf, 0.5, math.nan), ["inf", "0.500", "nan"]),
    ],
)
def test_what_a_column_shows(values: tuple, shown: list[str]) -> None:
    assert of(*values) == shown


def test_a_word_is_shown_in_place_of_a_number() -> None:
    assert number_texts([Measured(None, word="collapsed 1/2"), Measured(0.25)]) == ["collapsed 1/2", "0.250"]


@given(st.lists(SIZES, min_size=1, max_size=6))
def test_no_number_is_shown_as_nothing_and_three_digits_of_the_largest_are_right(values: list[float]) -> None:
    shown = [float(text) for text in of(*values)]
    assert all(shown)
    largest = max(values)
    assert shown[values.index(largest)] == pytest.approx(largest, rel=0.006)


@given(SIZES, SIZES)
def test_a_mean_and_its_spread_have_the_same_decimals(mean: float, spread: float) -> None:
    (shown,) = of((mean, spread))
    first, second = shown.split(" ± ")
    assert [len(part.partition(".")[2]) for part in (first,)] == [len(second.partition(".")[2])]
    assert first.partition("e")[2] == second.partition("e")[2]
