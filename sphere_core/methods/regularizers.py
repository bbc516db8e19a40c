"""The regularizers of the field, a row each."""

from collections.abc import Mapping

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.rows import SYSTEM, TARGETS, RegularizerRow
from sphere_core.regularizers.base import Regularizer, Scope
from sphere_core.regularizers.prune import Prune
from sphere_core.regularizers.rect import Rect
from sphere_core.regularizers.revive import Revive
from sphere_core.regularizers.sphere import Sphere

__all__ = ["REGULARIZERS"]


def _sphere(hyperparameters: Hyperparameters) -> Sphere:
    ratio, strength = hyperparameters.number("energy_ratio"), hyperparameters.number("strength")
    return Sphere(energy_ratio=ratio, strength=strength, basis=hyperparameters.basis)


def _revive(hyperparameters: Hyperparameters) -> Regularizer:
    return Revive(
        threshold=hyperparameters.number("revive_threshold"),
        energy=hyperparameters.revive_energy,
        weight=hyperparameters.revive_weight,
        basis=hyperparameters.revive_basis,
    )


REGULARIZERS: Mapping[str, RegularizerRow] = {
    "sphere": RegularizerRow(
        title="SPHERE: updates damped along the principal directions of the neurons",
        paper="arXiv 2510.01172",
        requires=(("energy_ratio",), ("strength",)),
        filter=_sphere,
        read_out=_sphere,
    ),
    "revive": RegularizerRow(
        title="REVIVE: nothing written into the dominant singular subspace",
        paper="arXiv 2601.11042",
        requires=(("revive_threshold",),),
        filter=_revive,
    ),
    "rect": RegularizerRow(
        title="RECT: only the entries with the largest relative change",
        paper="arXiv 2401.04700",
        requires=(("rect_keep",),),
        filter=lambda hyperparameters: Rect(keep=hyperparameters.number("rect_keep")),
    ),
    "prune": RegularizerRow(
        title="PRUNE: large singular values of the whole change damped, for scoring only",
        paper="arXiv 2405.16821",
        scope=Scope.READ_OUT,
        read_out=lambda _: Prune(),
        state="the unregularized weights",
    ),
    "simie": RegularizerRow(
        title="SimIE: single edits brought near the ideal editor of all",
        paper="EasyEdit 14cea82",
        requires=(("simie_lambda",), ("simie_start",)),
        scope=Scope.TARGETS,
        state="inputs of all tokens of earlier edits, or their Gram matrix once that is smaller",
        revision=lambda _: 2,
    ),
    "nas": RegularizerRow(
        title="NAS: targets scaled to the norm of values on the unedited model",
        paper="arXiv 2602.02543",
        requires=(("nas_factor",),),
        scope=Scope.TARGETS,
        needs=TARGETS,
        state="the anchor norm",
    ),
    "error_feedback": RegularizerRow(
        title="OTE-SE: what the other regularizers took away is asked for again",
        paper="arXiv 2605.26670",
        scope=Scope.TARGETS,
        needs=SYSTEM,
        state="the last batch's error, d_out x d_in",
        revision=lambda _: 2,
    ),
    "gate": RegularizerRow(
        title="Gate: a batch accepted, shrunk or rejected by what it costs earlier edits",
        paper="after STABLE, arXiv 2510.16089",
        requires=(("gate_budget",), ("gate_anchors",), ("gate_steps",), ("gate_measure",), ("gate_search",)),
        scope=Scope.TARGETS,
        state="the latest edits, and counts of verdicts",
        revision=lambda _: 2,
    ),
}
