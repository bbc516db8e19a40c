"""Which methods each hyperparameter belongs to."""

from collections.abc import Collection, Mapping

from sphere_core.hyperparameters.fields import Hyperparameters

__all__ = ["fields_of"]

# What a row of the method table has to do with: editors by their names, regularizers by theirs. A field that is not
# here belongs to all of them.
_LOCATE = frozenset(
    ["memit", "memit_seq", "emmet", "encore", "alphaedit", "evoedit", "lyaplock", "nse", "rome", "r_rome", "moeedit"]
)
# It has neither C0 as a whole nor a history.
_DENSE = _LOCATE - {"rome", "r_rome", "moeedit"}
_TARGETED = _LOCATE | {"neuraldb"}
_ROWS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("v_lr", "v_num_grad_steps", "v_weight_decay", "clamp_norm_factor", "kl_factor"), _TARGETED),
    **dict.fromkeys(
        ("v_stop_loss", "requests_per_pass", "prob_cutoff", "encore_stop", "fact_token", "v_loss_layer"), _TARGETED
    ),
    "sites": frozenset(["ft", "ft_l", "lora", "ultraedit", "eblora", "truncate", "perturb", "unedited"]),
    "memory_threshold": frozenset(["neuraldb", "retrieve", "memoir", "serac"]),
    **dict.fromkeys(("serac_classifier", "serac_counterfactual", "serac_digest"), frozenset(["serac"])),
    **dict.fromkeys(("retrieve_encoder", "retrieve_digest"), frozenset(["retrieve"])),
    **dict.fromkeys(("neurons_file", "neurons_digest"), frozenset(["neurons"])),
    "memoir_keep": frozenset(["memoir"]),
    "gradient_clip": frozenset(["memoir", "lora"]),
    **dict.fromkeys(("memory_background", "memory_stop_loss"), frozenset(["memoir", "wise"])),
    **dict.fromkeys(("wise_share", "wise_margins", "wise_ratio"), frozenset(["wise"])),
    **dict.fromkeys(("wise_shard_edits", "wise_merge_edits", "wise_density"), frozenset(["wise"])),
    **dict.fromkeys(("grace_radius", "grace_start"), frozenset(["grace"])),
    "memory_seed": frozenset(["memoir", "grace", "wise"]),
    "targets": _LOCATE - {"rome", "r_rome"},
    "mom2_adjustment": frozenset(["rome", "r_rome"]),
    "mom2_update_weight": _DENSE - {"evoedit"},
    "update_norm_lambda": _DENSE,
    "emmet_lambda": frozenset(["emmet"]),
    **dict.fromkeys(("nullspace_threshold", "nullspace_share", "L2"), frozenset(["alphaedit", "evoedit", "moeedit"])),
    "unseen_experts": frozenset(["moeedit"]),
    "history_weight": _DENSE | {"crispedit"},
    "history_window": _DENSE,
    "crisp_energy": frozenset(["crispedit"]),
    **dict.fromkeys(("lora_rank", "lora_scale"), frozenset(["lora", "eblora"])),
    **dict.fromkeys(("lora_start", "lora_width", "memory_share"), frozenset(["eblora"])),
    "lora_seed": frozenset(["lora"]),
    "evoedit_threshold": frozenset(["evoedit"]),
    "lyaplock_alpha": frozenset(["lyaplock"]),
    **dict.fromkeys(
        ("nse_alpha", "nse_upper_bound", "nse_target_space", "neuron_threshold", "max_iterations"), frozenset(["nse"])
    ),
    "lr": frozenset(["ft", "ft_l", "lora", "ultraedit", "crispedit", "eblora", "memoir", "grace", "wise"]),
    "batch_size": frozenset(["ft", "ft_l", "lora", "ultraedit", "crispedit", "eblora"]),
    "num_steps": frozenset(["ft", "ft_l", "lora", "crispedit", "eblora", "memoir", "grace", "wise"]),
    "weight_decay": frozenset(["ft", "ft_l", "lora", "crispedit", "eblora", "memoir", "wise"]),
    "ft_stop_loss": frozenset(["ft", "ft_l", "crispedit"]),
    "norm_constraint": frozenset(["ft", "ft_l", "wise"]),
    "norm_reference": frozenset(["ft", "ft_l"]),
    **dict.fromkeys(("ultraedit_variance", "ultraedit_weighting", "ultraedit_sharing"), frozenset(["ultraedit"])),
    **dict.fromkeys(("spectrum_levels", "spectrum_share"), frozenset(["truncate", "perturb"])),
    **dict.fromkeys(("perturb_band", "perturb_seed"), frozenset(["perturb"])),
    **dict.fromkeys(("energy_ratio", "strength", "basis"), frozenset(["sphere"])),
    "rect_keep": frozenset(["rect"]),
    "balance_strength": frozenset(["balance"]),
    **dict.fromkeys(("revive_threshold", "revive_energy", "revive_weight", "revive_basis"), frozenset(["revive"])),
    **dict.fromkeys(("nas_factor", "anchor_norm"), frozenset(["nas"])),
    **dict.fromkeys(("simie_lambda", "simie_start"), frozenset(["simie"])),
    "feedback_ridge": frozenset(["error_feedback"]),
    **dict.fromkeys(("gate_measure", "gate_search", "gate_min_scale"), frozenset(["gate"])),
    **dict.fromkeys(("gate_budget", "gate_anchors", "gate_steps"), frozenset(["gate"])),
}


def fields_of(rows: Collection[str]) -> frozenset[str]:
    """Return the hyperparameters that a method can use, by the names of its editor and regularizers; all of them if
    `rows` is empty."""
    names = frozenset(Hyperparameters.model_fields)
    return names if not rows else frozenset(name for name in names if name not in _ROWS or _ROWS[name] & {*rows})
