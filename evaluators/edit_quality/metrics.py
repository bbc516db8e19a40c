"""Edit-quality metrics as pure functions of a probe table: no model, no tokenizer.

Symbols: nll(o | x) is the mean negative log-likelihood per target token. A probe of prompt x has the
target o that counts as right (new for rewrite, paraphrase and portability, true for neighborhood) and maybe
a contrast o'. Every value is averaged inside a record first, then over records (Meng et al., arXiv
2210.07229). Values are shares in [0, 1]; published tables print them times 100.

Protocols: `probability` requires nll(o | x) < nll(o' | x), strictly, and a contrast; `argmax` requires that
every token of o is the argmax given the ones before it; `token` is the share of such tokens, as zsRE tables
print (Mitchell et al., arXiv 2110.11309). Of probes that are variants of one question (an answer's aliases, the
wordings of a multi-hop question) the best outcome counts (Zhong et al., arXiv 2305.14795).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from evaluators.base import Health
from evaluators.edit_quality.probes import NO_CONTRAST, ProbeTable

__all__ = ["METRIC_OF_ROLE", "SCORED_ROLES", "Outcomes", "outcomes", "probe_rows", "record_means"]

METRIC_OF_ROLE = {
    "rewrite": "efficacy",
    "paraphrase": "generalization",
    "neighborhood": "specificity",
    "portability": "portability",
    "multi_hop": "multi_hop",
}
SCORED_ROLES = ("rewrite", "paraphrase", "neighborhood")
# Two mean likelihoods of equal logits over targets of different length differ by rounding alone.
_TIE_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Outcomes:
    """What one protocol says of each probe it applies to: its edit, role and unit, and its value."""

    edit: np.ndarray
    role: np.ndarray
    unit: np.ndarray
    value: np.ndarray
    finite: np.ndarray
    tied: np.ndarray

    def of_role(self, role: str) -> "Outcomes":
        """Return the outcomes of one role."""
        return self.where(self.role == role)

    def where(self, keep: np.ndarray) -> "Outcomes":
        """Return the outcomes under a mask."""
        kept = (self.edit, self.role, self.unit, self.value, self.finite, self.tied)
        return Outcomes(*(column[keep] for column in kept))

    @property
    def health(self) -> Health:
        """Counts over the probes."""
        return Health(len(self.value), int((~self.finite).sum()), int(self.tied.sum()))


def outcomes(table: ProbeTable) -> dict[str, Outcomes]:
    """Return the outcomes of each protocol.

    `magnitude` holds the probability difference, `agreement` the share of tokens predicted as by the unedited model.
    """
    scores, target = table.scores, table.target
    finite, tied = scores.finite[target], scores.tied[target]
    of_probe = (table.edit, table.role, table.unit)
    named = {
        "argmax": Outcomes(*of_probe, scores.exact[target].astype(float), finite, tied),
        "token": Outcomes(*of_probe, scores.token_accuracy[target], finite, tied),
    }
    paired = table.contrast != NO_CONTRAST
    of_paired = (table.edit[paired], table.role[paired], table.unit[paired])
    right, other = target[paired], table.contrast[paired]
    both_finite = scores.finite[right] & scores.finite[other]
    with np.errstate(invalid="ignore", over="ignore"):
        nll, rival = scores.nll_mean[right], scores.nll_mean[other]
        equal = np.abs(nll - rival) <= _TIE_TOLERANCE * np.maximum(np.abs(nll), np.abs(rival))
        won = (nll < rival) & ~equal & both_finite
        difference = np.exp(-nll) - np.exp(-rival)
    equal &= both_finite
    named["probability"] = Outcomes(*of_paired, won.astype(float), both_finite, equal)
    if table.agreed is not None:
        asked = table.agreed[target] >= 0
        share = table.agreed[target] / scores.tokens[target]
        named["agreement"] = Outcomes(*of_probe, share, finite, tied).where(asked)
    named["magnitude"] = Outcomes(*of_paired, difference, both_finite, equal)
    return named


def record_means(chosen: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Return the edits that have an outcome, in order, and the mean over units of each; a unit has its best outcome."""
    units, first, place = np.unique(chosen.unit, return_index=True, return_inverse=True)
    best = np.full(len(units), -np.inf)
    with np.errstate(invalid="ignore"):
        np.maximum.at(best, place, chosen.value)
    edits, place = np.unique(chosen.edit[first], return_inverse=True)
    sums = np.bincount(place, weights=best, minlength=len(edits))
    return edits, sums / np.bincount(place, minlength=len(edits))


def probe_rows(table: ProbeTable, protocol: str) -> pa.Table:
    """Return one row per probe in its leanest form; texts are stored in `probe_texts`, once per stream.

    `nll_mean` and `contrast_nll_mean` are float32; the summed likelihood is `nll_mean` x `tokens`, a target is exact
    where `correct` = `tokens`, token accuracy is their ratio. `won` is the outcome under `probability`, decided
    in float64. `agreed` counts the tokens predicted as by the unedited model, null where it was not asked.
    """
    scores, target = table.scores, table.target
    missing = table.contrast == NO_CONTRAST
    other = np.where(missing, 0, table.contrast)
    won = np.zeros(len(target), dtype=bool)
    won[~missing] = outcomes(table)["probability"].value > 0
    agreed = table.agreed[target] if table.agreed is not None else np.full(len(target), -1)
    correct = np.rint(scores.token_accuracy * scores.tokens)
    return pa.table(
        {
            "protocol": pa.array([protocol] * len(target), pa.string()),
            "edit": pa.array(table.edit, pa.int32()),
            "probe": pa.array(table.probe, pa.int16()),
            "role": pa.array(table.role.tolist(), pa.string()),
            "nll_mean": pa.array(scores.nll_mean[target].astype(np.float32), pa.float32()),
            "tokens": pa.array(scores.tokens[target], pa.int16()),
            "correct": pa.array(correct[target].astype(np.int16), pa.int16()),
            "finite": pa.array(scores.finite[target], pa.bool_()),
            "tied": pa.array(scores.tied[target], pa.bool_()),
            "contrast_nll_mean": pa.array(scores.nll_mean[other].astype(np.float32), pa.float32(), mask=missing),
            "contrast_tokens": pa.array(scores.tokens[other], pa.int16(), mask=missing),
            "contrast_finite": pa.array(scores.finite[other], pa.bool_(), mask=missing),
            "won": pa.array(won, pa.bool_(), mask=missing),
            "agreed": pa.array(agreed.astype(np.int16), pa.int16(), mask=agreed < 0),
        }
    )
