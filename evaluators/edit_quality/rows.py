"""Edit-quality rows: means, standard errors and health of a probe table's outcomes, under a named protocol."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from evaluators.base import Score, collapses, make_score, total_health
from evaluators.edit_quality.metrics import METRIC_OF_ROLE, SCORED_ROLES, Outcomes, outcomes, record_means
from evaluators.edit_quality.probes import NO_CONTRAST, ProbeTable
from evaluators.edit_quality.sample import EditSample
from evaluators.edit_quality.settings import EditProtocol
from evaluators.statistics import harmonic_mean, mean_stderr

__all__ = ["EditRows", "edit_scores", "named_protocol"]


def named_protocol(protocol: EditProtocol, measure: str) -> str:
    """Return the protocol in the rows: the measure alone for `correct`, else `paper-memit/argmax` and such."""
    return measure if protocol == "correct" else f"{protocol}/{measure}"


def edit_scores(
    table: ProbeTable, *, cohort: int | None, protocol: EditProtocol, sample: EditSample | None = None
) -> list[Score]:
    """Return all edit-quality scores of a table.

    Under `correct`, for each of `probability`, `argmax` and `token`: efficacy, generalization and specificity
    (portability and multi_hop where probed), and `score`, the harmonic mean of the three. A paper's protocol gives what
    its tables give: `probability` and `argmax` for probes with a contrast (CounterFact), `token` for probes without
    (zsRE), and one `score`, from the first of the two; SPHERE's is the arithmetic mean and is called
    `score_arithmetic`. `*_magnitude` is the mean of exp(-nll(o)) - exp(-nll(o')). `agreement` is the share of
    neighborhood answers predicted as the unedited model predicts them: all tokens of an answer (`argmax`) or each
    (`token`). Of a model with an attachment, `routed_*` is the share of a role's probes that it acts on. With a
    `cohort` of k, also the efficacy of the first and of the latest k edits. Standard errors are over records; that of
    `score` is the jackknife's. A protocol that applies to no probe gives no row. A score built on any non-finite probe,
    or more than half on tied ones, is collapsed; so is a `score` with a collapsed part.
    """
    named = outcomes(table)
    if protocol != "correct":
        contrasted = table.contrast != NO_CONTRAST
        named["argmax"] = named["argmax"].where(contrasted)
        named["token"] = named["token"].where(~contrasted)
    rows = EditRows(protocol, sample)
    found: list[Score] = []
    for measure in ("probability", "argmax", "token"):
        chosen = named[measure]
        by_role = {role: chosen.of_role(role) for role in METRIC_OF_ROLE}
        for role, metric in METRIC_OF_ROLE.items():
            found.extend(rows.mean(metric, measure, by_role[role]))
        found.extend(rows.combined(measure, {role: by_role[role] for role in SCORED_ROLES}))
        found.extend(rows.cohorts(measure, by_role["rewrite"], cohort))
    for role, metric in METRIC_OF_ROLE.items():
        found.extend(rows.mean(f"{metric}_magnitude", "probability", named["magnitude"].of_role(role)))
    if "agreement" in named:
        share = named["agreement"]
        found.extend(rows.mean("agreement", "argmax", replace(share, value=(share.value == 1).astype(float))))
        found.extend(rows.mean("agreement", "token", share))
    if table.scores.routed is not None and protocol == "correct":
        probed = replace(named["argmax"], value=table.scores.routed[table.target].astype(float))
        for role in METRIC_OF_ROLE:
            for row in rows.mean(f"routed_{role}", "probes", probed.of_role(role)):
                found.append(replace(row, higher_is_better=None))
    return found


@dataclass(frozen=True)
class EditRows:
    """Builds rows under one protocol, from all edits or from a sample of them."""

    protocol: EditProtocol
    sample: EditSample | None = None

    def mean(self, metric: str, measure: str, chosen: Outcomes) -> Iterable[Score]:
        """Yield the mean over records of one metric, unless nothing was asked."""
        if len(chosen.value) == 0:
            return
        edits, means = record_means(chosen)
        yield make_score(
            metric,
            named_protocol(self.protocol, measure),
            self._mean(edits, means),
            self._stderr(edits, means),
            n=len(means),
            health=chosen.health,
            higher_is_better=True,
        )

    def cohorts(self, measure: str, rewrites: Outcomes, cohort: int | None) -> Iterable[Score]:
        """Yield the efficacy of the first and of the latest `cohort` edits."""
        if cohort is None or len(rewrites.edit) == 0:
            return
        last = int(rewrites.edit.max()) if self.sample is None else self.sample.edits
        yield from self.mean("efficacy_first", measure, rewrites.where(rewrites.edit <= cohort))
        yield from self.mean("efficacy_latest", measure, rewrites.where(rewrites.edit > last - cohort))

    def combined(self, measure: str, by_role: Mapping[str, Outcomes]) -> Iterable[Score]:
        """Yield the mean of efficacy, generalization and specificity, where the protocol has it under this measure."""
        published = self.protocol != "correct"
        if (published and measure == "argmax") or any(len(chosen.value) == 0 for chosen in by_role.values()):
            return
        arithmetic = self.protocol == "paper-sphere"
        mean = (lambda rates: rates.mean(axis=0)) if arithmetic else harmonic_mean
        healths = [chosen.health for chosen in by_role.values()]
        per_role = [record_means(chosen) for chosen in by_role.values()]
        weighted = [(known, means, self._weights(known)) for known, means in per_role]
        edits = np.unique(np.concatenate([known for known, _ in per_role]))
        yield make_score(
            "score_arithmetic" if arithmetic else "score",
            named_protocol(self.protocol, measure),
            float(mean(np.array([self._mean(known, means) for known, means in per_role]))),
            _jackknife(edits, weighted, mean),
            n=len(edits),
            health=total_health(healths),
            part_collapsed=any(collapses(health) for health in healths),
            higher_is_better=True,
        )

    def _mean(self, edits: np.ndarray, means: np.ndarray) -> float:
        return float(means.mean() if self.sample is None else self._weights(edits) @ means)

    def _weights(self, edits: np.ndarray) -> np.ndarray:
        if self.sample is None:
            return np.full(len(edits), 1 / len(edits))
        return self.sample.weights(edits)

    def _stderr(self, edits: np.ndarray, means: np.ndarray) -> float | None:
        return mean_stderr(means) if self.sample is None else self.sample.stderr(edits, means)


def _jackknife(
    edits: np.ndarray,
    per_role: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    mean: Callable[[np.ndarray], np.ndarray],
) -> float | None:
    """Return the jackknife's standard error of a mean over roles; a role is (edits, record means, weights)."""
    count = len(edits)
    if any(len(means) < 2 for _, means, _ in per_role):
        return None
    left_out = np.empty((len(per_role), count))
    for line, (known, means, weights) in enumerate(per_role):
        whole = weights @ means
        left_out[line] = whole
        left_out[line, np.searchsorted(edits, known)] = (whole - weights * means) / (1 - weights)
    # A sum of zeros and ones less its only one must be 0, not what rounding leaves of it.
    left_out[left_out < 1e-12] = 0
    values = mean(left_out)
    return float(np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum()))
