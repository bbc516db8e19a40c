"""A seeded sample of the edits so far, stratified by age, for runs too long to score every edit at every checkpoint."""

from dataclasses import dataclass

import numpy as np

from evaluators.statistics import mean_stderr

__all__ = ["EditSample", "sample_edits"]

_STRATA = 10


@dataclass(frozen=True)
class EditSample:
    """Chosen edits (1-based places, ascending) out of 1..`edits`; stratum h is (bounds[h], bounds[h+1]].

    An estimate is sum over h of W_h mean_h with W_h the stratum's share of the edits; its variance is sum over h
    of W_h^2 s_h^2 / n_h (Cochran, Sampling Techniques, ch. 5). The edits count as drawn from all facts that could have
    been edited, as they do where all are scored: there is no correction for the finite number of edits.
    """

    edits: int
    places: tuple[int, ...]
    bounds: np.ndarray

    def weights(self, edits: np.ndarray) -> np.ndarray:
        """Return the weights of some of the chosen edits, summing to one; a stratum without any gives its share up."""
        stratum, counts = self._strata(edits)
        share = np.diff(self.bounds) * (counts > 0)
        weights: np.ndarray = (share / share.sum())[stratum] / counts[stratum]
        return weights

    def stderr(self, edits: np.ndarray, values: np.ndarray) -> float | None:
        """Return the standard error of the weighted mean; unstratified where a stratum has a single value."""
        stratum, counts = self._strata(edits)
        if (counts == 1).any():
            return mean_stderr(values)
        share = np.diff(self.bounds) * (counts > 0)
        share = share / share.sum()
        terms = [
            share[h] ** 2 * values[stratum == h].var(ddof=1) / counts[h] for h in range(len(counts)) if counts[h] > 1
        ]
        return float(np.sqrt(sum(terms)))

    def _strata(self, edits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stratum = np.searchsorted(self.bounds, edits, side="left") - 1
        return stratum, np.bincount(stratum, minlength=len(self.bounds) - 1)


def sample_edits(edits: int, size: int, seed: int) -> EditSample | None:
    """Choose `size` of the edits 1..`edits`, in proportion from strata of equal age; None if that is all of them.

    Every edit has one seeded rank for good, and a stratum gives its lowest ranks: what was asked at one checkpoint is
    likely to be asked at the next.
    """
    if size >= edits:
        return None
    strata = max(1, min(_STRATA, size // 2))
    bounds = np.rint(np.linspace(0, edits, strata + 1)).astype(int)
    quota = np.diff(np.rint(np.linspace(0, size, strata + 1)).astype(int))
    rank = np.random.default_rng(seed).random(edits)
    places: list[int] = []
    for start, end, count in zip(bounds[:-1], bounds[1:], quota, strict=True):
        places.extend(sorted(int(place) + 1 for place in start + np.argsort(rank[start:end], kind="stable")[:count]))
    return EditSample(edits, tuple(places), bounds)
