"""The regularizers of the field, a row each."""

from collections.abc import Mapping

from sphere_core.methods.rows import SYSTEM, TARGETS, RegularizerRow
from sphere_core.regularizers.scope import Scope

__all__ = ["REGULARIZERS"]


REGULARIZERS: Mapping[str, RegularizerRow] = {
    "sphere": RegularizerRow(
        title="SPHERE: updates damped along the principal directions of the neurons",
        paper="arXiv 2510.01172",
        requires=(("energy_ratio",), ("strength",)),
        filter="sphere_core.methods.regularizer_builds:sphere",
        read_out="sphere_core.methods.regularizer_builds:sphere",
    ),
    "revive": RegularizerRow(
        title="REVIVE: nothing written into the dominant singular subspace",
        paper="arXiv 2601.11042",
        requires=(("revive_threshold",),),
        filter="sphere_core.methods.regularizer_builds:revive",
    ),
    "rect": RegularizerRow(
        title="RECT: only the entries with the largest relative change",
        paper="arXiv 2401.04700",
        requires=(("rect_keep",),),
        filter="sphere_core.methods.regularizer_builds:rect",
    ),
    "balance": RegularizerRow(
        title="Balance: the singular values of an update made more equal, at equal norm",
        paper="after EBLoRA, arXiv 2602.00722",
        requires=(("balance_strength",),),
        filter="sphere_core.methods.regularizer_builds:balance",
    ),
    "prune": RegularizerRow(
        title="PRUNE: large singular values of the whole change damped, for scoring only",
        paper="arXiv 2405.16821",
        scope=Scope.READ_OUT,
        read_out="sphere_core.methods.regularizer_builds:prune",
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
        title="OTE-SE: what the other regularizers removed is requested again",
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
