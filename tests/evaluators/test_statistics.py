"""Intervals and paired tests, against worked examples and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from evaluators.statistics import estimate_mean, estimate_ratio, normal_interval, paired_difference, paired_ratio


def test_a_share_has_wilson_s_interval() -> None:
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611.
    found = estimate_mean([1.0] * 81 + [0.0] * 182)
    assert found.interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert found.stderr == pytest.approx(np.sqrt(81 / 263 * 182 / 263 / 263))
    assert estimate_mean([0.0] * 20).interval == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_a_mean_has_student_s_interval() -> None:
    found = estimate_mean([1.0, 2.0, 4.0])
    assert found.value == pytest.approx(7 / 3)
    assert found.stderr == pytest.approx(np.sqrt(7 / 3 / 3))
    # t with two degrees of freedom: 4.3027.
    assert found.interval[1] - found.value == pytest.approx(4.302653 * found.stderr)
    assert estimate_mean([2.5]).interval is None
    assert estimate_mean([0.5, float("nan")]).interval is None


def test_a_ratio_s_interval_covers_it() -> None:
    """R = 2 holds in 92 to 98 of 100 samples of 60 documents of very unequal length."""
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        weights = draw.geometric(0.02, size=60).astype(float)
        low, high = estimate_ratio(2 * weights + draw.normal(size=60) * np.sqrt(weights), weights).interval
        inside += low < 2 < high
    assert 920 < inside < 980
    assert estimate_ratio(np.array([6.0]), np.array([3.0])).value == 2
    assert normal_interval(1.0, 1.0) == pytest.approx((1 - 1.959964, 1 + 1.959964))


def test_the_same_documents_are_compared_with_themselves() -> None:
    before = np.array([1.0] * 10 + [0.0] * 10)
    after = before.copy()
    assert paired_difference(after, before).p == 1.0
    after[:6] = 0
    after[19] = 1
    found = paired_difference(after, before)
    # One gained of seven that changed: p = 2 (C(7,0) + C(7,1)) / 2^7.
    assert (found.value, found.n) == (pytest.approx(-0.25), 20)
    assert found.p == pytest.approx(2 * 8 / 128)
    assert found.interval[0] < -0.25 < found.interval[1]
    shifted = paired_difference(np.array([1.1, 2.3, 3.2]), np.array([1.0, 2.0, 3.0]))
    # t = 0.2 / (0.1 / sqrt 3) with two degrees of freedom.
    assert shifted.p == pytest.approx(0.0741799, abs=1e-6)


@pytest.mark.parametrize("lost", [0, 1, 7, 30, 64, 500, 1400])
@pytest.mark.parametrize("gained", [0, 1, 5, 29, 64])
def test_paired_shares_have_the_p_of_scipy_s_exact_test(gained: int, lost: int) -> None:
    before = np.array([0.0] * gained + [1.0] * lost + [1.0] * 10)
    after = np.array([1.0] * gained + [0.0] * lost + [1.0] * 10)
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert paired_difference(after, before).p == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [2, 3, 30, 400])
def test_intervals_and_p_have_the_bits_of_scipy_s_distributions(count: int) -> None:
    draw = np.random.default_rng(count)
    before, after = draw.normal(size=(2, count))
    found = paired_difference(after, before)
    stderr = float((after - before).std(ddof=1) / np.sqrt(count))
    assert found.p == float(2 * stats.t.sf(abs(found.value) / stderr, count - 1))
    width = float(stats.t.ppf(0.975, count - 1)) * stderr
    assert found.interval == (found.value - width, found.value + width)
    assert paired_difference(after, before) == found
    assert normal_interval(0.5, 0.1) == (
        0.5 - float(stats.norm.ppf(0.975)) * 0.1,
        0.5 + float(stats.norm.ppf(0.975)) * 0.1,
    )
    ratio = paired_ratio(after, before, np.ones(count))
    assert ratio.value == pytest.approx(-found.value)
    assert ratio.p == pytest.approx(found.p)
