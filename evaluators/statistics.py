"""95 % confidence intervals in closed form, and differences between two models on the same documents.

scipy is imported where it is used. `scipy.stats` takes a second, so quantiles of the normal and of Student's
distribution come from `scipy.special`, which gives the same bits; only Wilson's interval needs `scipy.stats`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Difference",
    "Estimate",
    "estimate_mean",
    "estimate_ratio",
    "harmonic_mean",
    "mean_stderr",
    "normal_interval",
    "paired_difference",
    "paired_ratio",
    "rate_stderr",
]

_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and 95 % interval; None if there is too little to say."""

    value: float
    stderr: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """The mean change over the same documents, its 95 % interval, and the p of no change (two-sided)."""

    value: float
    interval: tuple[float, float] | None
    p: float | None
    n: int


def estimate_mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """Return the mean of values `[n]`, n >= 1, in float64.

    Zeros and ones are a share: binomial standard error, Wilson's interval (1927). Anything else: s / sqrt(n) and
    Student's interval with n - 1 degrees of freedom.
    """
    from scipy import stats

    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if not np.isfinite(sample).all():
        return Estimate(mean, None, None)
    if np.isin(sample, (0.0, 1.0)).all():
        share = stats.binomtest(int(sample.sum()), len(sample)).proportion_ci(_LEVEL, method="wilson")
        return Estimate(mean, rate_stderr(mean, len(sample)), (float(share.low), float(share.high)))
    stderr = mean_stderr(sample)
    return Estimate(mean, stderr, None if stderr is None else _student(mean, stderr, len(sample)))


def estimate_ratio(sums: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return R = sum(a) / sum(w) over documents, `[n]` each, in float64, with the ratio estimator's standard error.

    se(R) = sqrt(n / (n - 1) * sum (a_i - R w_i)^2) / sum(w) (Cochran 1977, 6.4); Student's interval.
    """
    ratio = float(sums.sum() / weights.sum())
    n = len(sums)
    if n < 2 or not math.isfinite(ratio):
        return Estimate(ratio, None, None)
    residuals = sums - ratio * weights
    stderr = float(np.sqrt(n / (n - 1) * (residuals @ residuals)) / weights.sum())
    return Estimate(ratio, stderr, _student(ratio, stderr, n))


def normal_interval(value: float, stderr: float) -> tuple[float, float]:
    """Return the 95 % interval of a normal estimate, as for a mean of many tasks."""
    from scipy import special

    width = float(special.ndtri((1 + _LEVEL) / 2)) * stderr
    return value - width, value + width


def paired_difference(after: np.ndarray, before: np.ndarray) -> Difference:
    """Return the mean of `after - before` over the same documents, `[n]` each, in float64.

    The interval is Student's, of the mean of differences. p: where all are zeros and ones, McNemar's exact test (the
    documents that changed are heads or tails of a fair coin); else the paired t-test.
    """
    from scipy import special

    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    n, mean = len(change), float(change.mean())
    stderr = mean_stderr(change)
    interval = None if stderr is None else _student(mean, stderr, n)
    p: float | None
    if np.isin(after, (0.0, 1.0)).all() and np.isin(before, (0.0, 1.0)).all():
        gained, lost = int((change > 0).sum()), int((change < 0).sum())
        p = _fair_coin(gained, gained + lost)
    elif not stderr:
        p = 1.0 if mean == 0 and n else None
    else:
        p = float(2 * special.stdtr(n - 1, -abs(mean) / stderr))
    return Difference(mean, interval, p, n)


def paired_ratio(after: np.ndarray, before: np.ndarray, weights: np.ndarray) -> Difference:
    """Return the change of -sum(a) / sum(w), as of the log of a perplexity, over the same documents, `[n]` each.

    The change is itself a ratio of sums, so that the ratio estimator's interval holds; p is that of its t.
    """
    from scipy import special

    found = estimate_ratio(np.asarray(before, dtype=np.float64) - np.asarray(after, dtype=np.float64), weights)
    p = None
    if found.stderr:
        p = float(2 * special.stdtr(len(weights) - 1, -abs(found.value) / found.stderr))
    elif found.value == 0:
        p = 1.0
    return Difference(found.value, found.interval, p, len(weights))


def _fair_coin(heads: int, flips: int) -> float:
    """Return the two-sided p of a fair coin: 2 sum_(i <= min(heads, tails)) C(flips, i) / 2^flips, in integers."""
    ways = total = 1
    for i in range(min(heads, flips - heads)):
        ways = ways * (flips - i) // (i + 1)
        total += ways
    return min(1.0, 2 * total / (1 << flips))


def _student(mean: float, stderr: float, n: int) -> tuple[float, float]:
    from scipy import special

    width = float(special.stdtrit(n - 1, (1 + _LEVEL) / 2)) * stderr
    return mean - width, mean + width


def harmonic_mean(rates: np.ndarray) -> np.ndarray:
    """Return the harmonic mean of rates `[k, ...]` over the first axis, 0 if any of them is 0."""
    with np.errstate(divide="ignore"):
        mean: np.ndarray = np.asarray(len(rates) / (1 / rates).sum(axis=0))
    return mean


def mean_stderr(values: Sequence[float] | np.ndarray) -> float | None:
    """Return s / sqrt(n) with s the sample standard deviation (n - 1); None for fewer than two values."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2:
        return None
    return float(sample.std(ddof=1) / math.sqrt(sample.size))


def rate_stderr(rate: float, n: int) -> float | None:
    """Return the binomial standard error sqrt(p (1 - p) / n) of a rate over n trials; None for n = 0."""
    return math.sqrt(max(rate * (1 - rate), 0.0) / n) if n else None
