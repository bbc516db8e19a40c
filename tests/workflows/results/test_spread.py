"""Spread of a mean and paired differences, against scipy on known cases."""

import math

import numpy as np
import pytest
from scipy import stats

from workflows.results.layouts.spread import half_width, hierarchical_interval, paired_by_seed


def test_spread_over_seeds_is_students() -> None:
    values = [0.31, 0.36, 0.29, 0.4, 0.33]
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert half_width("ci95-seeds", values, []) == pytest.approx((high - low) / 2, rel=1e-12)
    assert half_width("se-seeds", values, []) == pytest.approx(stats.sem(values), rel=1e-12)
    assert half_width("sd-seeds", values, []) == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert half_width("sd-seeds", [0.3], [0.1]) is None
    assert half_width("none", values, []) is None


def test_spread_over_records_is_that_of_a_mean_of_means() -> None:
    groups = np.random.default_rng(0).normal(size=(3, 50))
    errors = [float(stats.sem(group)) for group in groups]
    se = half_width("se-records", [0.0] * 3, errors)
    assert se == pytest.approx(math.sqrt(sum(e**2 for e in errors)) / 3)
    assert half_width("ci95-records", [0.0] * 3, errors) == pytest.approx(stats.norm.ppf(0.975) * se)
    assert half_width("se-records", [0.0] * 3, [*errors[:2], None]) is None


def test_an_interval_over_paired_seeds_is_that_of_the_paired_t_test() -> None:
    before, after = np.array([0.3, 0.35, 0.32, 0.41]), np.array([0.4, 0.52, 0.41, 0.6])
    found = paired_by_seed(list(after - before), None)
    wanted = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-12)
    assert found.star
    assert not paired_by_seed(list(after - before)[:3], None).star
    assert paired_by_seed([0.1], None).low is None


def test_the_bootstrap_of_one_group_is_scipys() -> None:
    values = np.random.default_rng(1).exponential(size=200)
    wanted = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=0)
    found = hierarchical_interval([values], resamples=20_000)
    assert found == pytest.approx(tuple(wanted.confidence_interval), rel=0.02)


def test_the_bootstrap_of_constant_groups_is_that_of_their_means() -> None:
    means = np.array([0.1, 0.5, 0.2, 0.9, 0.4, 0.45])
    found = hierarchical_interval([np.full(5, mean) for mean in means], resamples=20_000)
    wanted = stats.bootstrap((means,), np.mean, n_resamples=20_000, method="percentile", random_state=0)
    assert found == pytest.approx(tuple(wanted.confidence_interval), abs=0.02)
    assert hierarchical_interval([means, means]) == hierarchical_interval([means, means])
