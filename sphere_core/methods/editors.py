"""The editors of the field, a row each."""

from collections.abc import Mapping

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.memories import MEMORIES
from sphere_core.methods.rows import HISTORY, KEYS, SYSTEM, TARGET_NAMES, TARGETS, EditorRow, never
from sphere_core.regularizers.scope import Scope

__all__ = ["EDITORS"]

_NULL_SPACE = ("nullspace_threshold", "nullspace_share")

_QUADRATIC = (KEYS, TARGETS, SYSTEM)
_ADAM = (("lr",), ("num_steps",), ("batch_size",))
_SPECTRUM = (("spectrum_levels",), ("spectrum_share",))


def _for_adjusted_keys(hyperparameters: Hyperparameters) -> bool:
    return hyperparameters.mom2_adjustment


EDITORS: Mapping[str, EditorRow] = {
    "ft": EditorRow(
        title="FT: Adam on the edited weights",
        paper="arXiv 2012.00363",
        build="sphere_core.methods.builds:fine_tuning",
        requires=_ADAM,
        needs_moments=never,
        on_experts="also",
    ),
    "ft_l": EditorRow(
        title="FT-L: FT within a box around the weight",
        paper="arXiv 2012.00363",
        build="sphere_core.methods.builds:fine_tuning",
        requires=(*_ADAM, ("norm_constraint",)),
        needs_moments=never,
        on_experts="also",
    ),
    "rome": EditorRow(
        title="ROME: one request at a time, an equality at one layer",
        paper="arXiv 2202.05262",
        build="sphere_core.methods.builds:rome",
        requires=TARGET_NAMES,
        gives=(KEYS,),
        needs_moments=_for_adjusted_keys,
    ),
    "r_rome": EditorRow(
        title="R-ROME: ROME with the averaged key throughout",
        paper="arXiv 2403.07175",
        build="sphere_core.methods.builds:r_rome",
        requires=TARGET_NAMES,
        gives=(KEYS,),
        needs_moments=_for_adjusted_keys,
    ),
    "memit": EditorRow(
        title="MEMIT: prior lambda C0, no history",
        paper="arXiv 2210.07229",
        build="sphere_core.methods.builds:memit",
        requires=(*TARGET_NAMES, ("mom2_update_weight",)),
        gives=_QUADRATIC,
    ),
    "memit_seq": EditorRow(
        title="MEMIT-seq: MEMIT with the keys of earlier edits",
        paper="arXiv 2210.07229; history as in AlphaEdit's release",
        build="sphere_core.methods.builds:memit_with_history",
        requires=(*TARGET_NAMES, ("mom2_update_weight",)),
        gives=_QUADRATIC,
        state=HISTORY,
    ),
    "emmet": EditorRow(
        title="EMMET: equality-constrained batch edit; MEMIT with lambda scaled by mu",
        paper="arXiv 2403.14236",
        build="sphere_core.methods.builds:emmet",
        requires=(*TARGET_NAMES, ("mom2_update_weight",), ("emmet_lambda",)),
        gives=_QUADRATIC,
    ),
    "encore": EditorRow(
        title="ENCORE: MEMIT-seq with a ridge, targets stopped when most probable",
        paper="arXiv 2502.01636",
        build="sphere_core.methods.builds:memit_with_history",
        requires=(*TARGET_NAMES, ("mom2_update_weight",), ("update_norm_lambda",), ("prob_cutoff",)),
        gives=_QUADRATIC,
        state=HISTORY,
    ),
    "alphaedit": EditorRow(
        title="AlphaEdit: ridge inside the null space of C0, with history",
        paper="arXiv 2410.02355",
        build="sphere_core.methods.builds:alphaedit",
        requires=(*TARGET_NAMES, ("L2",), _NULL_SPACE),
        uses_null_space=True,
        scope=Scope.IN_LOOP,
        gives=_QUADRATIC,
        state=HISTORY,
    ),
    "moeedit": EditorRow(
        title="MoEEdit: a ridge inside the null space of each expert of a mixture, all experts together",
        paper="arXiv 2602.10965",
        build="sphere_core.methods.builds:moeedit",
        requires=(*TARGET_NAMES, ("L2",), _NULL_SPACE),
        scope=Scope.IN_LOOP,
        gives=_QUADRATIC,
        on_experts="only",
    ),
    "evoedit": EditorRow(
        title="EvoEdit: a null space that shrinks by what was written",
        paper="arXiv 2510.13851",
        build="sphere_core.methods.builds:evoedit",
        requires=(*TARGET_NAMES, ("L2",), ("evoedit_threshold",), _NULL_SPACE),
        uses_null_space=True,
        scope=Scope.IN_LOOP,
        gives=_QUADRATIC,
        state="orthonormal directions of all that was written",
    ),
    "lyaplock": EditorRow(
        title="LyapLock: a queue weighs preservation against editing",
        paper="arXiv 2505.15702",
        build="sphere_core.methods.builds:lyaplock",
        requires=(*TARGET_NAMES, ("mom2_update_weight",), ("lyaplock_alpha",)),
        scope=Scope.IN_LOOP,
        gives=_QUADRATIC,
        state="sums of k k^T and v k^T, the queue and its budget",
        # Revision 2: with a budget below the first batch's loss, the queue did not move after the first batch.
        revision=lambda hyperparameters: 2 if hyperparameters.number("lyaplock_alpha") < 1 else 1,
    ),
    "nse": EditorRow(
        title="NSE: targets from the unedited weights, the most active neurons, repeated passes",
        paper="arXiv 2410.04045",
        build="sphere_core.methods.builds:nse",
        requires=(
            *TARGET_NAMES,
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
        build="sphere_core.methods.builds:ultraedit",
        requires=(
            ("lr",),
            ("batch_size",),
            ("ultraedit_variance",),
            ("ultraedit_weighting",),
            ("ultraedit_sharing",),
        ),
        gives=(KEYS,),
        needs_moments=never,
        state="running mean and variance of inputs and gradients",
        revision=lambda _: 2,
    ),
    "crispedit": EditorRow(
        title="CrispEdit: FT whose gradients keep only directions of low curvature",
        paper="arXiv 2602.15823",
        build="sphere_core.methods.builds:crispedit",
        requires=(*_ADAM, ("crisp_energy",)),
        needs_gradients=True,
        state="sums of k k^T and g g^T over earlier edits",
    ),
    "eblora": EditorRow(
        title="EBLoRA: a change with equal singular values, orthogonal to earlier batches' gradients",
        paper="arXiv 2602.00722",
        build="sphere_core.methods.builds:eblora",
        requires=(*_ADAM, ("lora_rank",), ("lora_scale",), ("lora_start",), ("lora_width",), ("memory_share",)),
        needs_moments=never,
        state="orthonormal directions of the gradients of all batches",
    ),
    "lora": EditorRow(
        title="LoRA: a low-rank adapter per batch, trained on the targets and merged",
        paper="arXiv 2106.09685",
        build="sphere_core.methods.builds:lora",
        requires=(*_ADAM, ("lora_rank",), ("lora_scale",), ("lora_seed",)),
        needs_moments=never,
        state="the number of batches",
    ),
    "truncate": EditorRow(
        title="Truncate: the leading share of a weight's spectrum, no request written",
        paper="after REVIVE, arXiv 2601.11042",
        build="sphere_core.methods.experiment_builds:truncate",
        requires=_SPECTRUM,
        needs_moments=never,
        writes_requests=False,
        state="the number of steps",
    ),
    "perturb": EditorRow(
        title="Perturb: noise of equal norm inside a band of a weight's spectrum, no request written",
        paper="after REVIVE, arXiv 2601.11042",
        build="sphere_core.methods.experiment_builds:perturb",
        requires=(*_SPECTRUM, ("perturb_band",), ("perturb_seed",)),
        needs_moments=never,
        writes_requests=False,
        state="the number of steps",
    ),
    "unedited": EditorRow(
        title="Unedited: nothing is written, the control of what comes after editing",
        paper="none",
        build="sphere_core.methods.experiment_builds:unedited",
        requires=(),
        needs_moments=never,
        writes_requests=False,
        on_experts="also",
    ),
    **MEMORIES,
}
