"""The editors of the field, a row each."""

from collections.abc import Callable, Mapping

import torch

from sphere_core.editors.base import Editor, WriteRule
from sphere_core.editors.closed_form.loop import ClosedFormEditor
from sphere_core.editors.closed_form.lyaplock import LyapLockRule
from sphere_core.editors.closed_form.nse import NseEditor
from sphere_core.editors.closed_form.rome import RomeEditor
from sphere_core.editors.closed_form.rules import EqualityRule, EvolvingNullSpaceRule, LeastSquaresRule
from sphere_core.editors.gradient.fine_tuning import FineTuningEditor, FineTuningSettings
from sphere_core.editors.gradient.ultraedit import UltraEditEditor
from sphere_core.editors.shaping import Shaping
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.targets import TargetSettings
from sphere_core.methods.rows import HISTORY, KEYS, SYSTEM, TARGETS, Build, EditorRow
from sphere_core.moments.null_space import null_space
from sphere_core.moments.record import SecondMoments
from sphere_core.numerics.linalg import Subspace
from sphere_core.regularizers.base import Scope
from sphere_core.regularizers.nas import AnchorSettings
from sphere_core.solver.priors import MomentPrior, NullSpacePrior

__all__ = ["EDITORS"]

_TARGET_NAMES = (("v_lr",), ("v_num_grad_steps",), ("v_weight_decay",), ("clamp_norm_factor",), ("kl_factor",))
_NULL_SPACE = ("nullspace_threshold", "nullspace_share")

RuleOf = Callable[[Hyperparameters, SecondMoments | None, int], WriteRule]


def _closed_form(rule_of: RuleOf) -> Build:
    """Return a build of the locate-then-edit loop with one rule a layer."""

    def build(
        hyperparameters: Hyperparameters,
        moments: SecondMoments | None,
        shaping: Shaping,
        anchor: AnchorSettings | None,
    ) -> Editor:
        rules = {layer: rule_of(hyperparameters, moments, layer) for layer in hyperparameters.layers}
        settings = TargetSettings.of(hyperparameters)
        return ClosedFormEditor(settings, hyperparameters.layers, rules, shaping, anchor)

    return build


def _moment(moments: SecondMoments | None, layer: int) -> torch.Tensor:
    if moments is None or layer not in moments.by_layer:
        raise InputError(f"no second moment for layer {layer}", remedy="build or import second moments")
    return moments.by_layer[layer]


def _moment_rule(
    hyperparameters: Hyperparameters, moments: SecondMoments | None, layer: int, *, history: bool
) -> WriteRule:
    moment = _moment(moments, layer)
    ridge = hyperparameters.update_norm_lambda or 0.0
    weight = hyperparameters.number("mom2_update_weight")
    prior = MomentPrior(moment, weight=weight, ridge=ridge, width=moment.shape[0])
    return LeastSquaresRule(prior, history, hyperparameters.history_weight, hyperparameters.history_window)


def _memit(hyperparameters: Hyperparameters, moments: SecondMoments | None, layer: int) -> WriteRule:
    return _moment_rule(hyperparameters, moments, layer, history=False)


def _with_history(hyperparameters: Hyperparameters, moments: SecondMoments | None, layer: int) -> WriteRule:
    return _moment_rule(hyperparameters, moments, layer, history=True)


def _emmet(hyperparameters: Hyperparameters, moments: SecondMoments | None, layer: int) -> WriteRule:
    moment = _moment(moments, layer)
    scale = hyperparameters.number("emmet_lambda")
    weight = scale * hyperparameters.number("mom2_update_weight")
    ridge = scale * (hyperparameters.update_norm_lambda or 0.0)
    prior = MomentPrior(moment, weight=weight, ridge=ridge, width=moment.shape[0])
    return EqualityRule(prior, False, hyperparameters.history_weight, hyperparameters.history_window)


def _null_space(hyperparameters: Hyperparameters, moments: SecondMoments | None, layer: int) -> Subspace:
    """Return the null space that comes with the moments (computed before, or imported), or compute it."""
    known = None if moments is None else moments.null_spaces.get(layer)
    if known is not None:
        return known
    moment = _moment(moments, layer)
    return null_space(moment, threshold=hyperparameters.nullspace_threshold, share=hyperparameters.nullspace_share)


def _alphaedit(hyperparameters: Hyperparameters, moments: SecondMoments | None, layer: int) -> WriteRule:
    prior = NullSpacePrior(_null_space(hyperparameters, moments, layer), hyperparameters.number("L2"))
    return LeastSquaresRule(prior, True, hyperparameters.history_weight, hyperparameters.history_window)


def _evoedit(hyperparameters: Hyperparameters, moments: SecondMoments | None, layer: int) -> WriteRule:
    space = _null_space(hyperparameters, moments, layer)
    ridge, threshold = hyperparameters.number("L2"), hyperparameters.number("evoedit_threshold")
    return EvolvingNullSpaceRule(space, ridge, threshold)


def _lyaplock(hyperparameters: Hyperparameters, moments: SecondMoments | None, layer: int) -> WriteRule:
    moment = _moment(moments, layer)
    weight, alpha = hyperparameters.number("mom2_update_weight"), hyperparameters.number("lyaplock_alpha")
    return LyapLockRule(moment, weight, alpha)


def _rome(same_key: bool) -> Build:
    def build(
        hyperparameters: Hyperparameters,
        moments: SecondMoments | None,
        shaping: Shaping,
        anchor: AnchorSettings | None,
    ) -> Editor:
        (layer,) = _single_layer(hyperparameters)
        prior = None
        if hyperparameters.mom2_adjustment:
            moment = _moment(moments, layer)
            prior = MomentPrior(moment, weight=1.0, ridge=0.0, width=moment.shape[0])
        return RomeEditor(TargetSettings.of(hyperparameters), layer, prior, same_key, shaping)

    return build


def _single_layer(hyperparameters: Hyperparameters) -> tuple[int]:
    if len(hyperparameters.layers) != 1:
        raise InputError(
            f"ROME edits one layer, 'layers' names {len(hyperparameters.layers)}",
            where="hyperparameter 'layers'",
            remedy="name one layer",
        )
    return (hyperparameters.layers[0],)


def _fine_tuning(
    hyperparameters: Hyperparameters,
    moments: SecondMoments | None,
    shaping: Shaping,
    anchor: AnchorSettings | None,
) -> Editor:
    settings = FineTuningSettings(
        layers=hyperparameters.layers,
        lr=hyperparameters.number("lr"),
        weight_decay=hyperparameters.weight_decay or 0.0,
        epochs=int(hyperparameters.number("num_steps")),
        batch_size=int(hyperparameters.number("batch_size")),
        stop_loss=hyperparameters.ft_stop_loss,
        box=float(hyperparameters.norm_constraint) if hyperparameters.norm_constraint else None,
        reference=hyperparameters.norm_reference,
    )
    return FineTuningEditor(settings, shaping)


def _ultraedit(
    hyperparameters: Hyperparameters,
    moments: SecondMoments | None,
    shaping: Shaping,
    anchor: AnchorSettings | None,
) -> Editor:
    rate, rows = hyperparameters.number("lr"), int(hyperparameters.number("batch_size"))
    return UltraEditEditor(hyperparameters.layers, rate, rows, shaping)


def _nse(
    hyperparameters: Hyperparameters,
    moments: SecondMoments | None,
    shaping: Shaping,
    anchor: AnchorSettings | None,
) -> Editor:
    return NseEditor(
        settings=TargetSettings.of(hyperparameters),
        layers=hyperparameters.layers,
        moments={layer: _moment(moments, layer) for layer in hyperparameters.layers},
        weight=hyperparameters.number("mom2_update_weight"),
        alpha=hyperparameters.number("nse_alpha"),
        upper_bound=hyperparameters.number("nse_upper_bound"),
        neuron_threshold=hyperparameters.number("neuron_threshold"),
        passes=int(hyperparameters.number("max_iterations")) - 1,
        shaping=shaping,
    )


_QUADRATIC = (KEYS, TARGETS, SYSTEM)

EDITORS: Mapping[str, EditorRow] = {
    "ft": EditorRow(
        title="FT: Adam on the edited weights",
        paper="arXiv 2012.00363",
        build=_fine_tuning,
        requires=(("lr",), ("num_steps",), ("batch_size",)),
        needs_moments=lambda _: False,
    ),
    "ft_l": EditorRow(
        title="FT-L: FT within a box around the weight",
        paper="arXiv 2012.00363",
        build=_fine_tuning,
        requires=(("lr",), ("num_steps",), ("batch_size",), ("norm_constraint",)),
        needs_moments=lambda _: False,
    ),
    "rome": EditorRow(
        title="ROME: one request at a time, an equality at one layer",
        paper="arXiv 2202.05262",
        build=_rome(same_key=False),
        requires=_TARGET_NAMES,
        gives=(KEYS,),
        needs_moments=lambda hyperparameters: hyperparameters.mom2_adjustment,
    ),
    "r_rome": EditorRow(
        title="R-ROME: ROME with the averaged key throughout",
        paper="arXiv 2403.07175",
        build=_rome(same_key=True),
        requires=_TARGET_NAMES,
        gives=(KEYS,),
        needs_moments=lambda hyperparameters: hyperparameters.mom2_adjustment,
    ),
    "memit": EditorRow(
        title="MEMIT: prior lambda C0, no history",
        paper="arXiv 2210.07229",
        build=_closed_form(_memit),
        requires=(*_TARGET_NAMES, ("mom2_update_weight",)),
        gives=_QUADRATIC,
    ),
    "memit_seq": EditorRow(
        title="MEMIT-seq: MEMIT with the keys of earlier edits",
        paper="arXiv 2210.07229; history as in AlphaEdit's release",
        build=_closed_form(_with_history),
        requires=(*_TARGET_NAMES, ("mom2_update_weight",)),
        gives=_QUADRATIC,
        state=HISTORY,
    ),
    "emmet": EditorRow(
        title="EMMET: equality-constrained batch edit; MEMIT with lambda scaled by mu",
        paper="arXiv 2403.14236",
        build=_closed_form(_emmet),
        requires=(*_TARGET_NAMES, ("mom2_update_weight",), ("emmet_lambda",)),
        gives=_QUADRATIC,
    ),
    "encore": EditorRow(
        title="ENCORE: MEMIT-seq with a ridge, targets stopped when most probable",
        paper="arXiv 2502.01636",
        build=_closed_form(_with_history),
        requires=(*_TARGET_NAMES, ("mom2_update_weight",), ("update_norm_lambda",), ("prob_cutoff",)),
        gives=_QUADRATIC,
        state=HISTORY,
    ),
    "alphaedit": EditorRow(
        title="AlphaEdit: ridge inside the null space of C0, with history",
        paper="arXiv 2410.02355",
        build=_closed_form(_alphaedit),
        requires=(*_TARGET_NAMES, ("L2",), _NULL_SPACE),
        uses_null_space=True,
        scope=Scope.IN_LOOP,
        gives=_QUADRATIC,
        state=HISTORY,
    ),
    "evoedit": EditorRow(
        title="EvoEdit: a null space that shrinks by what was written",
        paper="arXiv 2510.13851",
        build=_closed_form(_evoedit),
        requires=(*_TARGET_NAMES, ("L2",), ("evoedit_threshold",), _NULL_SPACE),
        uses_null_space=True,
        scope=Scope.IN_LOOP,
        gives=_QUADRATIC,
        state="orthonormal directions of all that was written",
    ),
    "lyaplock": EditorRow(
        title="LyapLock: a queue weighs preservation against editing",
        paper="arXiv 2505.15702",
        build=_closed_form(_lyaplock),
        requires=(*_TARGET_NAMES, ("mom2_update_weight",), ("lyaplock_alpha",)),
        scope=Scope.IN_LOOP,
        gives=_QUADRATIC,
        state="sums of k k^T and v k^T, the queue and its budget",
    ),
    "nse": EditorRow(
        title="NSE: targets from the unedited weights, the most active neurons, repeated passes",
        paper="arXiv 2410.04045",
        build=_nse,
        requires=(
            *_TARGET_NAMES,
            ("mom2_update_weight",),
            ("nse_alpha",),
            ("nse_upper_bound",),
            ("neuron_threshold",),
            ("max_iterations",),
        ),
        scope=Scope.IN_LOOP,
        gives=(KEYS,),
        state=HISTORY,
    ),
    "ultraedit": EditorRow(
        title="UltraEdit: one backward pass, running normalisation, a small solve",
        paper="arXiv 2505.14679",
        build=_ultraedit,
        requires=(("lr",), ("batch_size",)),
        gives=(KEYS,),
        needs_moments=lambda _: False,
        state="running mean and variance of inputs and gradients",
    ),
}
