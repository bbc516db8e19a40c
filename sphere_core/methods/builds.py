"""From hyperparameters and second moments to an editor: the `build` of each row of the table of editors.

A rule of the closed-form loop is built per layer. Raises InputError if a layer has no second moment.
"""

from collections.abc import Callable
from dataclasses import replace

from sphere_core.editors.base import Editor, WriteRule
from sphere_core.editors.closed_form.loop import ClosedFormEditor
from sphere_core.editors.closed_form.lyaplock import LyapLockRule
from sphere_core.editors.closed_form.nse import NseEditor
from sphere_core.editors.closed_form.rome import RomeEditor
from sphere_core.editors.closed_form.rules import EqualityRule, EvolvingNullSpaceRule, HostRule, LeastSquaresRule
from sphere_core.editors.gradient.crispedit import CrispEditEditor, Curvature
from sphere_core.editors.gradient.eblora import EbloraEditor, EbloraSettings
from sphere_core.editors.gradient.fine_tuning import FineTuningEditor, FineTuningSettings
from sphere_core.editors.gradient.lora import LoraEditor, LoraSettings
from sphere_core.editors.gradient.ultraedit import UltraEditEditor, UltraEditSettings
from sphere_core.foundation.errors import InputError
from sphere_core.locate.targets import TargetSettings
from sphere_core.methods.build_inputs import Build, BuildInputs
from sphere_core.moments.null_space import expert_null_spaces, null_space
from sphere_core.numerics.linalg import Subspace
from sphere_core.numerics.placement import Resident
from sphere_core.solver.priors import HostPrior, MomentPrior, NullSpacePrior, Prior
from sphere_core.tuning.adapters import Lora

__all__ = [
    "alphaedit",
    "crispedit",
    "eblora",
    "emmet",
    "evoedit",
    "fine_tuning",
    "lora",
    "lyaplock",
    "memit",
    "memit_with_history",
    "moeedit",
    "nse",
    "r_rome",
    "rome",
    "single_layer",
    "target_settings",
    "ultraedit",
]

RuleOf = Callable[[BuildInputs, int], WriteRule]


def _closed_form(rule_of: RuleOf, *, null_spaces: bool = False) -> Build:
    """Return a build of the locate-then-edit loop with one write rule per layer.

    `null_spaces` says that the rules take the null space of C0.
    """

    def build(inputs: BuildInputs) -> Editor:
        if null_spaces:
            inputs = _with_null_spaces(inputs)
        layers = inputs.hyperparameters.layers
        rules = {layer: rule_of(inputs, layer) for layer in layers}
        if inputs.shaping.error_feedback:
            rules = {
                layer: replace(rule, keeps_system=True) if isinstance(rule, LeastSquaresRule) else rule
                for layer, rule in rules.items()
            }
        rules |= {layer: HostRule(rules[layer]) for layer in inputs.placement.on_host & rules.keys()}
        return ClosedFormEditor(target_settings(inputs), layers, rules, inputs.shaping, inputs.anchor)

    return build


def target_settings(inputs: BuildInputs) -> TargetSettings:
    """Return the settings of the target optimisation, with the requests per pass that the placement has room for."""
    settings = TargetSettings.of(inputs.hyperparameters)
    return replace(settings, requests_per_pass=inputs.placement.requests_per_pass or settings.requests_per_pass)


def _moment_rule(inputs: BuildInputs, layer: int, *, history: bool) -> WriteRule:
    hyperparameters, moment = inputs.hyperparameters, inputs.moment(layer)
    ridge = hyperparameters.update_norm_lambda or 0.0
    weight = hyperparameters.number("mom2_update_weight")
    prior = MomentPrior(moment, weight=weight, ridge=ridge, width=moment.shape[0])
    return LeastSquaresRule(prior, history, hyperparameters.history_weight, hyperparameters.history_window)


def _memit_rule(inputs: BuildInputs, layer: int) -> WriteRule:
    """The rule of MEMIT: prior `mom2_update_weight` C0 plus a ridge, no history."""
    return _moment_rule(inputs, layer, history=False)


def _with_history_rule(inputs: BuildInputs, layer: int) -> WriteRule:
    """The rule of MEMIT with the keys of earlier edits."""
    return _moment_rule(inputs, layer, history=True)


def _emmet_rule(inputs: BuildInputs, layer: int) -> WriteRule:
    """The rule of EMMET: an equality under MEMIT's prior scaled by `emmet_lambda`."""
    hyperparameters, moment = inputs.hyperparameters, inputs.moment(layer)
    scale = hyperparameters.number("emmet_lambda")
    weight = scale * hyperparameters.number("mom2_update_weight")
    ridge = scale * (hyperparameters.update_norm_lambda or 0.0)
    prior = MomentPrior(moment, weight=weight, ridge=ridge, width=moment.shape[0])
    return EqualityRule(prior, False, hyperparameters.history_weight, hyperparameters.history_window)


def _with_null_spaces(inputs: BuildInputs) -> BuildInputs:
    """Return inputs with the null space of every layer: computed before, imported, or else computed now."""
    hyperparameters, moments = inputs.hyperparameters, inputs.moments
    rule = {"threshold": hyperparameters.nullspace_threshold, "share": hyperparameters.nullspace_share}
    known = {} if moments is None else moments.null_spaces
    missing = [layer for layer in hyperparameters.layers if layer not in known]
    device = inputs.placement.decomposes_on
    found = {layer: null_space(inputs.moment(layer), **rule, device=device) for layer in missing}
    return inputs if moments is None else replace(inputs, moments=replace(moments, null_spaces={**known, **found}))


def _null_space(inputs: BuildInputs, layer: int) -> Subspace:
    moments = inputs.moments
    if moments is None or layer not in moments.null_spaces:
        raise InputError(f"no null space for layer {layer}", remedy="build or import second moments")
    return moments.null_spaces[layer]


def _alphaedit_rule(inputs: BuildInputs, layer: int) -> WriteRule:
    """The rule of AlphaEdit: a ridge inside the null space of C0, with history."""
    hyperparameters = inputs.hyperparameters
    prior = NullSpacePrior(_null_space(inputs, layer), hyperparameters.number("L2"))
    return LeastSquaresRule(prior, True, hyperparameters.history_weight, hyperparameters.history_window)


def _moeedit_rule(inputs: BuildInputs, layer: int) -> WriteRule:
    """The rule of MoEEdit: a ridge inside the null space of each expert, all experts solved together, no history."""
    hyperparameters, moments = inputs.hyperparameters, inputs.moments
    if moments is None or layer not in moments.routed:
        raise InputError(f"no second moments of the experts of layer {layer}", remedy="build them for this model")
    space = expert_null_spaces(
        inputs.moment(layer),
        moments.routed[layer],
        threshold=hyperparameters.nullspace_threshold,
        share=hyperparameters.nullspace_share,
        unseen=hyperparameters.unseen_experts or "frozen",
        device=inputs.placement.decomposes_on,
    )
    return LeastSquaresRule(NullSpacePrior(space, hyperparameters.number("L2")), False, 1.0, None)


def _evoedit_rule(inputs: BuildInputs, layer: int) -> WriteRule:
    """The rule of EvoEdit: a null space that loses the directions written."""
    hyperparameters, space = inputs.hyperparameters, _null_space(inputs, layer)
    ridge, threshold = hyperparameters.number("L2"), hyperparameters.number("evoedit_threshold")
    return EvolvingNullSpaceRule(Resident(space), ridge, threshold)


def _lyaplock_rule(inputs: BuildInputs, layer: int) -> WriteRule:
    """The rule of LyapLock: the weight of preservation follows a virtual queue."""
    hyperparameters, moment = inputs.hyperparameters, inputs.moment(layer)
    weight, alpha = hyperparameters.number("mom2_update_weight"), hyperparameters.number("lyaplock_alpha")
    return LyapLockRule(Resident(moment), weight, alpha)


def _rome(same_key: bool) -> Build:
    """Return a build of ROME, with the same averaged key throughout (R-ROME) or not."""

    def build(inputs: BuildInputs) -> Editor:
        layer = single_layer(inputs, "ROME")
        prior: Prior | None = None
        if inputs.hyperparameters.mom2_adjustment:
            moment = inputs.moment(layer)
            prior = MomentPrior(moment, weight=1.0, ridge=0.0, width=moment.shape[0])
            prior = HostPrior(prior) if layer in inputs.placement.on_host else prior
        return RomeEditor(target_settings(inputs), layer, prior, same_key, inputs.shaping)

    return build


def single_layer(inputs: BuildInputs, name: str) -> int:
    """Return the one edited layer; raises InputError, naming the method, if there are several."""
    layers = inputs.hyperparameters.layers
    if len(layers) != 1:
        raise InputError(
            f"{name} edits one layer, 'layers' names {len(layers)}",
            where="hyperparameter 'layers'",
            remedy="name one layer",
        )
    return layers[0]


def fine_tuning(inputs: BuildInputs) -> Editor:
    """Build FT, or FT-L where `norm_constraint` is given."""
    hyperparameters = inputs.hyperparameters
    settings = FineTuningSettings(
        places=hyperparameters.places,
        lr=hyperparameters.number("lr"),
        weight_decay=hyperparameters.weight_decay or 0.0,
        epochs=int(hyperparameters.number("num_steps")),
        batch_size=int(hyperparameters.number("batch_size")),
        stop_loss=hyperparameters.ft_stop_loss,
        box=float(hyperparameters.norm_constraint) if hyperparameters.norm_constraint else None,
        reference=hyperparameters.norm_reference,
    )
    return FineTuningEditor(settings, inputs.shaping)


def crispedit(inputs: BuildInputs) -> Editor:
    """Build CrispEdit: fine-tuning, with a filter from the curvature of the corpus."""
    hyperparameters, moments = inputs.hyperparameters, inputs.moments
    settings = FineTuningSettings(
        places=hyperparameters.layers,
        lr=hyperparameters.number("lr"),
        weight_decay=hyperparameters.weight_decay or 0.0,
        epochs=int(hyperparameters.number("num_steps")),
        batch_size=int(hyperparameters.number("batch_size")),
        stop_loss=hyperparameters.ft_stop_loss,
        box=None,
        reference="batch",
        weighting="tokens",
    )
    count = 0 if moments is None else moments.count
    curvature = {
        layer: Curvature(Resident(inputs.moment(layer)), Resident(inputs.gradient_moment(layer)), count)
        for layer in hyperparameters.layers
    }
    energy, weight = hyperparameters.number("crisp_energy"), hyperparameters.history_weight
    return CrispEditEditor(FineTuningEditor(settings, inputs.shaping), curvature, energy, weight)


def eblora(inputs: BuildInputs) -> Editor:
    """Build EBLoRA."""
    hyperparameters = inputs.hyperparameters
    settings = EbloraSettings(
        places=hyperparameters.places,
        lr=hyperparameters.number("lr"),
        weight_decay=hyperparameters.weight_decay or 0.0,
        epochs=int(hyperparameters.number("num_steps")),
        batch_size=int(hyperparameters.number("batch_size")),
        rank=int(hyperparameters.number("lora_rank")),
        scale=hyperparameters.number("lora_scale"),
        start=hyperparameters.number("lora_start"),
        memory_share=hyperparameters.number("memory_share"),
        width=hyperparameters.number("lora_width"),
    )
    return EbloraEditor(settings, inputs.shaping)


def lora(inputs: BuildInputs) -> Editor:
    """Build LoRA, one merged adapter per batch."""
    hyperparameters = inputs.hyperparameters
    settings = LoraSettings(
        places=hyperparameters.places,
        lr=hyperparameters.number("lr"),
        weight_decay=hyperparameters.weight_decay or 0.0,
        epochs=int(hyperparameters.number("num_steps")),
        batch_size=int(hyperparameters.number("batch_size")),
        clip=hyperparameters.gradient_clip,
        seed=int(hyperparameters.number("lora_seed")),
    )
    adapter = Lora(int(hyperparameters.number("lora_rank")), hyperparameters.number("lora_scale"))
    return LoraEditor(adapter, settings, inputs.shaping)


def ultraedit(inputs: BuildInputs) -> Editor:
    """Build UltraEdit."""
    hyperparameters = inputs.hyperparameters
    settings = UltraEditSettings(
        lr=hyperparameters.number("lr"),
        batch_size=int(hyperparameters.number("batch_size")),
        variance=hyperparameters.ultraedit_variance or "unbiased",
        weighting=hyperparameters.ultraedit_weighting or "tokens",
        sharing=hyperparameters.ultraedit_sharing or "shape",
    )
    return UltraEditEditor(hyperparameters.places, settings, inputs.shaping)


def nse(inputs: BuildInputs) -> Editor:
    """Build NSE; `max_iterations` counts the first pass, the editor the passes after it."""
    hyperparameters = inputs.hyperparameters
    return NseEditor(
        settings=replace(target_settings(inputs), space=hyperparameters.nse_target_space is not False),
        layers=hyperparameters.layers,
        moments={layer: Resident(inputs.moment(layer)) for layer in hyperparameters.layers},
        weight=hyperparameters.number("mom2_update_weight"),
        alpha=hyperparameters.number("nse_alpha"),
        upper_bound=hyperparameters.number("nse_upper_bound"),
        neuron_threshold=hyperparameters.number("neuron_threshold"),
        passes=int(hyperparameters.number("max_iterations")) - 1,
        shaping=inputs.shaping,
        placement=inputs.placement,
    )


alphaedit = _closed_form(_alphaedit_rule, null_spaces=True)
emmet = _closed_form(_emmet_rule)
evoedit = _closed_form(_evoedit_rule, null_spaces=True)
lyaplock = _closed_form(_lyaplock_rule)
moeedit = _closed_form(_moeedit_rule)
memit = _closed_form(_memit_rule)
memit_with_history = _closed_form(_with_history_rule)
rome, r_rome = _rome(same_key=False), _rome(same_key=True)
