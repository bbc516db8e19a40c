"""Hyperparameters that single editors take, for models of a few layers; layers, rates and steps are the caller's."""

__all__ = ["OF_EDITORS"]

_GRADIENT: dict[str, object] = {
    "memory_background": 2,
    "memory_seed": 3,
    "memory_stop_loss": 0.02,
    "weight_decay": 1e-3,
}
_ADAPTER: dict[str, object] = {"lora_rank": 2, "lora_scale": 2.0}
OF_EDITORS: dict[str, dict[str, object]] = {
    "ft_l": {"norm_constraint": 0.05},
    "truncate": {"spectrum_levels": [0.9, 0.5], "spectrum_share": "sum"},
    "perturb": {
        "spectrum_levels": [0.1, 0.3],
        "spectrum_share": "squares",
        "perturb_band": [0.2, 0.5],
        "perturb_seed": 3,
    },
    "crispedit": {"crisp_energy": 0.6},
    "lora": {**_ADAPTER, "lora_seed": 3},
    "eblora": {**_ADAPTER, "lora_start": -0.05, "lora_width": 2.0, "memory_share": 0.8},
    "grace": {"grace_radius": 0.5, "grace_start": "cold", "memory_seed": 3},
    "wise": {
        **_GRADIENT,
        "wise_share": 0.3,
        "wise_margins": [0.2, 1.0, 0.5],
        "wise_ratio": 0.8,
        "wise_shard_edits": 2,
        "wise_merge_edits": 4,
        "wise_density": 0.2,
        "norm_constraint": 0.1,
    },
    "memoir": {**_GRADIENT, "memory_threshold": 0.5, "memoir_keep": 16, "gradient_clip": 1.0},
    "ultraedit": {
        "ultraedit_variance": "unbiased",
        "ultraedit_weighting": "tokens",
        "ultraedit_sharing": "shape",
    },
}
