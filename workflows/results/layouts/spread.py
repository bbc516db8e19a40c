"""Spread of a mean over seeds or records, and differences paired by seed and record."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.statistics import mean_stderr
from workflows.results.layouts.layout import Spread

__all__ = ["LEAST_SEEDS_FOR_A_STAR", "PairedDifference", "half_width", "hierarchical_interval", "paired_by_seed"]

# With fewer seeds an interval over seeds says next to nothing, and a star would say more than is known.
LEAST_SEEDS_FOR_A_STAR = 4
_LEVEL = 0.95
_NORMAL = 1.959963984540054
_CHUNK = 4_000_000


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference over pairs of seeds, its 95 % interval and what the interval is over.

    `star`: the interval excludes 0, and there are seeds enough to say so.
    """

    value: float
    low: float | None
    high: float | None
    seeds: int
    records: int
    star: bool


def half_width(spread: Spread, values: Sequence[float], stderrs: Sequence[float | None]) -> float | None:
    """Return the number behind ± for the values of some seeds `[k]` and their standard errors over records.

    Over seeds: the sample standard deviation s (divisor k - 1), s / sqrt(k), or Student's half interval
    t(k - 1) s / sqrt(k). Over records: the standard error of the mean of k independent means, sqrt(sum se^2) / k, or
    1.96 of these. None if there is too little: one seed, or a seed without a standard error.
    """
    if spread == "none":
        return None
    if spread in ("se-records", "ci95-records"):
        known = [error for error in stderrs if error is not None]
        if not known or len(known) < len(stderrs):
            return None
        error = math.sqrt(sum(value**2 for value in known)) / len(known)
        return error if spread == "se-records" else _NORMAL * error
    error = mean_stderr(values) or 0.0
    if len(values) < 2:
        return None
    if spread == "sd-seeds":
        return error * math.sqrt(len(values))
    return error if spread == "se-seeds" else _student(len(values)) * error


def paired_by_seed(
    differences: Sequence[float], records: Sequence[np.ndarray] | None, *, resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Return the mean of differences of paired seeds `[k]` with a 95 % interval.

    `records` are the differences of each seed's paired records: seeds and, inside them, records are then resampled
    (percentiles of `hierarchical_interval`). Without them the interval is Student's over seeds, and None for one seed.
    """
    value = float(np.mean(differences))
    low: float | None = None
    high: float | None = None
    if records is not None:
        low, high = hierarchical_interval(records, resamples=resamples, seed=seed)
    elif len(differences) > 1:
        width = _student(len(differences)) * (mean_stderr(differences) or 0.0)
        low, high = value - width, value + width
    star = low is not None and high is not None and len(differences) >= LEAST_SEEDS_FOR_A_STAR and low * high > 0
    return PairedDifference(value, low, high, len(differences), sum(map(len, records or ())), star)


def hierarchical_interval(groups: Sequence[np.ndarray], *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over groups of their means, by a bootstrap of two levels.

    Each resample draws as many groups as there are, with replacement, and in each drawn group as many values as it
    has (Davison and Hinkley 1997, 3.8). Equal data and seed give equal bits.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(groups), size=(resamples, len(groups)))
    means = np.empty((resamples, len(groups)))
    for place, group in enumerate(groups):
        rows, columns = np.nonzero(drawn == place)
        step = max(1, _CHUNK // max(1, len(group)))
        for start in range(0, len(rows), step):
            chosen = slice(start, start + step)
            indices = generator.integers(len(group), size=(len(rows[chosen]), len(group)))
            means[rows[chosen], columns[chosen]] = group[indices].mean(axis=1)
    low, high = np.quantile(means.mean(axis=1), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _student(count: int) -> float:
    from scipy import special

    return float(special.stdtrit(count - 1, (1 + _LEVEL) / 2))
