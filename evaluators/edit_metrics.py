"""Edit-quality metrics as pure functions of a probe table: no model, no tokenizer.

Symbols: nll(o | x) is the mean negative log-likelihood per target token. A probe of prompt x has the
target o that counts as right (new for rewrite, paraphrase and portability, true for neighborhood) and maybe
a contrast o'. Every value is averaged inside a record first, then over records (Meng et al., arXiv
2210.07229). Values are shares in [0, 1]; published tables print them times 100.

Protocols: `probability` asks nll(o | x) < nll(o' | x), strictly, and needs a contrast; `argmax` asks that
every token of o is the argmax given the ones before it; `token` is the share of such tokens, as zsRE tables
print (Mitchell et al., arXiv 2110.11309).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from evaluators.probes import NO_CONTRAST, ProbeTable
from evaluators.rows import Health, Score, collapses, make_score, mean_stderr, total_health

__all__ = [
    "METRIC_OF_ROLE",
    "SCORED_ROLES",
    "Outcomes",
    "edit_scores",
    "harmonic_mean",
    "outcomes",
    "record_means",
]

METRIC_OF_ROLE = {
    "rewrite": "efficacy",
    "paraphrase": "generalization",
    "neighborhood": "specificity",
    "portability": "portability",
}
SCORED_ROLES = ("rewrite", "paraphrase", "neighborhood")
# Two mean likelihoods of equal logits over targets of different length differ by rounding alone.
_TIE_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Outcomes:
    """What one protocol says of each probe it applies to: the edit it belongs to, its role and its value."""

    edit: np.ndarray
    role: np.ndarray
    value: np.ndarray
    finite: np.ndarray
    tied: np.ndarray

    def of_role(self, role: str) -> "Outcomes":
        """Return the outcomes of one role."""
        return self.where(self.role == role)

    def where(self, keep: np.ndarray) -> "Outcomes":
        """Return the outcomes under a mask."""
        return Outcomes(self.edit[keep], self.role[keep], self.value[keep], self.finite[keep], self.tied[keep])

    @property
    def health(self) -> Health:
        """Counts over the probes."""
        return Health(len(self.value), int((~self.finite).sum()), int(self.tied.sum()))


def outcomes(table: ProbeTable) -> dict[str, Outcomes]:
    """Return the outcomes of each protocol, and the probability difference under `magnitude`."""
    scores, target = table.scores, table.target
    finite, tied = scores.finite[target], scores.tied[target]
    named = {
        "argmax": Outcomes(table.edit, table.role, scores.exact[target].astype(float), finite, tied),
        "token": Outcomes(table.edit, table.role, scores.token_accuracy[target], finite, tied),
    }
    paired = table.contrast != NO_CONTRAST
    edit, role = table.edit[paired], table.role[paired]
    right, other = target[paired], table.contrast[paired]
    both_finite = scores.finite[right] & scores.finite[other]
    with np.errstate(invalid="ignore", over="ignore"):
        nll, rival = scores.nll_mean[right], scores.nll_mean[other]
        equal = np.abs(nll - rival) <= _TIE_TOLERANCE * np.maximum(np.abs(nll), np.abs(rival))
        won = (nll < rival) & ~equal & both_finite
        difference = np.exp(-nll) - np.exp(-rival)
    equal &= both_finite
    named["probability"] = Outcomes(edit, role, won.astype(float), both_finite, equal)
    named["magnitude"] = Outcomes(edit, role, difference, both_finite, equal)
    return named


def record_means(chosen: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Return the edits that have an outcome, in order, and the mean outcome of each."""
    edits, place = np.unique(chosen.edit, return_inverse=True)
    sums = np.bincount(place, weights=chosen.value, minlength=len(edits))
    return edits, sums / np.bincount(place, minlength=len(edits))


def edit_scores(table: ProbeTable, *, cohort: int | None) -> list[Score]:
    """Return all edit-quality scores of a table.

    For each protocol: efficacy, generalization and specificity (portability where probed), and `score`, their
    harmonic mean. `*_magnitude` is the mean of exp(-nll(o)) - exp(-nll(o')). With a `cohort` of k, also the
    efficacy of the first and of the latest k edits. Standard errors are over records; that of `score` is
    the jackknife's. A protocol that applies to no probe gives no row. A score built on any non-finite
    probe, or more than half on tied ones, is collapsed; so is a `score` with a collapsed part.
    """
    named = outcomes(table)
    rows: list[Score] = []
    for protocol in ("probability", "argmax", "token"):
        chosen = named[protocol]
        by_role = {role: chosen.of_role(role) for role in METRIC_OF_ROLE}
        for role, metric in METRIC_OF_ROLE.items():
            rows.extend(_mean_row(metric, protocol, by_role[role]))
        rows.extend(_harmonic_row(protocol, {role: by_role[role] for role in SCORED_ROLES}))
        rows.extend(_cohort_rows(protocol, by_role["rewrite"], cohort))
    for role, metric in METRIC_OF_ROLE.items():
        rows.extend(_mean_row(f"{metric}_magnitude", "probability", named["magnitude"].of_role(role)))
    return rows


def _mean_row(metric: str, protocol: str, chosen: Outcomes) -> Iterable[Score]:
    if len(chosen.value) == 0:
        return
    _, means = record_means(chosen)
    yield make_score(
        metric,
        protocol,
        float(means.mean()),
        mean_stderr(means),
        n=len(means),
        health=chosen.health,
        higher_is_better=True,
    )


def _cohort_rows(protocol: str, rewrites: Outcomes, cohort: int | None) -> Iterable[Score]:
    if cohort is None or len(rewrites.edit) == 0:
        return
    last = int(rewrites.edit.max())
    yield from _mean_row("efficacy_first", protocol, rewrites.where(rewrites.edit <= cohort))
    yield from _mean_row("efficacy_latest", protocol, rewrites.where(rewrites.edit > last - cohort))


def _harmonic_row(protocol: str, by_role: Mapping[str, Outcomes]) -> Iterable[Score]:
    if any(len(chosen.value) == 0 for chosen in by_role.values()):
        return
    healths = [chosen.health for chosen in by_role.values()]
    per_role = [record_means(chosen) for chosen in by_role.values()]
    edits = np.unique(np.concatenate([known for known, _ in per_role]))
    yield make_score(
        "score",
        protocol,
        float(harmonic_mean(np.array([means.mean() for _, means in per_role]))),
        _jackknife(edits, per_role),
        n=len(edits),
        health=total_health(healths),
        part_collapsed=any(collapses(health) for health in healths),
        higher_is_better=True,
    )


def harmonic_mean(rates: np.ndarray) -> np.ndarray:
    """Return the harmonic mean of rates `[k, ...]` over the first axis, 0 where any of them is 0."""
    with np.errstate(divide="ignore"):
        mean: np.ndarray = np.asarray(len(rates) / (1 / rates).sum(axis=0))
    return mean


def _jackknife(edits: np.ndarray, per_role: list[tuple[np.ndarray, np.ndarray]]) -> float | None:
    count = len(edits)
    if any(len(means) < 2 for _, means in per_role):
        return None
    left_out = np.empty((len(per_role), count))
    for line, (known, means) in enumerate(per_role):
        left_out[line] = means.mean()
        left_out[line, np.searchsorted(edits, known)] = (means.sum() - means) / (len(means) - 1)
    # A sum of zeros and ones less its only one must be 0, not what rounding leaves of it.
    left_out[left_out < 1e-12] = 0
    values = harmonic_mean(left_out)
    return float(np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum()))
