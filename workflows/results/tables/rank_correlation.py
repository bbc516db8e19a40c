"""Rank correlation, plain and partial, with bootstrap intervals over units that are resampled whole.

Symbols: x, y `[n]` the two variables, Z `[c, n]` the controls, B bootstrap samples. All by mid-ranks, in float64.
Spearman's rho is the correlation of the ranks of x and y; the partial one is that of what is left of both after least
squares on the ranks of Z (with a constant). Checkpoints of one trajectory are not independent, so a bootstrap sample
draws trajectories, with replacement and within each stratum, and takes all checkpoints of those it has drawn.

Within strata, ranks are taken among the checkpoints of each stratum alone, as shares of its weight and centred there:
what strata differ in by themselves is gone, and one coefficient, with one slope per control, is that of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LEAST_UNITS", "Estimate", "rank_correlation"]

# With n units there are C(2n - 1, n) different samples: 10 of three, 126 of five. Percentiles at 2.5 % need the latter.
LEAST_UNITS = 5
_LEVEL = 0.95
_CHUNK = 256
# What a rank's variance, given the controls, must exceed in units of its whole variance.
_DETERMINED = 1e-9
_MOST_UNDEFINED = 0.05


@dataclass(frozen=True)
class Estimate:
    """A coefficient with the bounds of its 95 % percentile interval; `note` says why one of them is missing."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = None


def rank_correlation(
    x: Sequence[float],
    y: Sequence[float],
    controls: Sequence[Sequence[float]],
    units: Sequence[str],
    strata: Sequence[str],
    *,
    resamples: int,
    seed: int,
    within: bool = False,
) -> Estimate:
    """Return the (partial) rank correlation of x and y given the controls, with an interval over `units`.

    `units` names the trajectory of every checkpoint and `strata` that within which trajectories are drawn, and with
    `within` also ranked. What cannot be had is None, with a note: too few checkpoints, a variable that does not vary
    or that the controls determine, too few units for an interval, or more than 5 % of bootstrap samples without a
    value. With two trajectories in a stratum a percentile interval is too narrow, by about 30 %.
    """
    columns = np.array([x, y, *controls], dtype=np.float64).reshape(2 + len(controls), -1)
    count = columns.shape[1]
    groups = _members(strata) if within else [np.arange(count)]
    if count < len(columns) + 1:
        return Estimate(None, note=f"{count} checkpoints")
    value = float(_coefficients(columns, np.ones((1, count)), groups)[0])
    if not np.isfinite(value):
        steady = [(columns[:2, own] == columns[:2, own[:1]]).all(axis=1) for own in groups]
        constant = bool(np.all(steady, axis=0).any())
        return Estimate(None, note="a constant" if constant else "determined by what is held fixed")
    names = sorted(set(units))
    if len(names) < LEAST_UNITS:
        return Estimate(value, note=f"no interval: {len(names)} trajectories")
    drawn = _bootstrap(columns, units, strata, groups, resamples=resamples, seed=seed)
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < (1 - _MOST_UNDEFINED) * resamples:
        return Estimate(value, note="no interval: undefined in bootstrap samples")
    low, high = np.quantile(defined, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def _members(strata: Sequence[str]) -> list[np.ndarray]:
    """Return the places of the checkpoints of each stratum."""
    named = np.array(strata)
    return [np.flatnonzero(named == name) for name in sorted(set(strata))]


def _bootstrap(
    columns: np.ndarray,
    units: Sequence[str],
    strata: Sequence[str],
    ranked: Sequence[np.ndarray],
    *,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """Return the coefficient of every bootstrap sample, `[resamples]`; nan if it has none. `ranked`: see
    `_coefficients`."""
    generator = np.random.default_rng(seed)
    stratum_of = dict(zip(units, strata, strict=True))
    names = sorted(stratum_of)
    place = np.array([names.index(unit) for unit in units])
    groups = [[i for i, name in enumerate(names) if stratum_of[name] == s] for s in sorted(set(strata))]
    found = []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        drawn = np.zeros((size, len(names)))
        for group in groups:
            drawn[:, group] = generator.multinomial(len(group), np.full(len(group), 1 / len(group)), size)
        found.append(_coefficients(columns, drawn[:, place], ranked))
    return np.concatenate(found)


def _coefficients(columns: np.ndarray, weights: np.ndarray, ranked: Sequence[np.ndarray]) -> np.ndarray:
    """Return the coefficient of each sample, given as how often it holds each checkpoint (`weights` `[B, n]`).

    `ranked` holds the places of the checkpoints that are ranked among each other.
    """
    centred = np.empty((len(columns), *weights.shape))
    for members in ranked:
        own = weights[:, members]
        mass = own.sum(axis=1, keepdims=True)
        ranks = np.stack([_weighted_ranks(column[members], own) for column in columns])
        centred[:, :, members] = (ranks - (own * ranks).sum(axis=2, keepdims=True) / mass) / mass
    total = weights.sum(axis=1)
    covariance = np.einsum("bn,kbn,lbn->bkl", weights, centred, centred) / total[:, None, None]
    spread = np.sqrt(np.einsum("bkk->bk", covariance))
    scale = np.where(spread > 0, spread, 1.0)
    matrix = covariance / (scale[:, :, None] * scale[:, None, :])
    pair, cross, held = matrix[:, :2, :2], matrix[:, :2, 2:], matrix[:, 2:, 2:]
    # Controls may be collinear (edits and |dW| both only grow): what they span is what is held fixed.
    left = pair - cross @ np.linalg.pinv(held, rcond=1e-10, hermitian=True) @ cross.transpose(0, 2, 1)
    variances = left[:, 0, 0] * left[:, 1, 1]
    known = (left[:, 0, 0] > _DETERMINED) & (left[:, 1, 1] > _DETERMINED)
    values = np.full(len(weights), np.nan)
    values[known] = np.clip(left[known, 0, 1] / np.sqrt(variances[known]), -1, 1)
    return values


def _weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mid-rank `[B, n]` that each value has in each sample."""
    _, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    tied = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks: np.ndarray = (tied.cumsum(axis=1) - tied / 2 + 0.5)[:, inverse]
    return ranks
