"""Hyperparameters of a method: validated, cited in presets, and read from MEMIT-style JSON unchanged."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sphere_core.errors import InputError, unknown_name

__all__ = ["Hyperparameters", "build_hyperparameters", "preset", "preset_names", "read_hyperparameters"]

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

# Keys of MEMIT-style files that name what the model's family already says, or where statistics come from.
RELEASED_ONLY = frozenset(
    [
        "model_name",
        "layer_selection",
        "layer_module_tmp",
        "mlp_module_tmp",
        "attn_module_tmp",
        "ln_f_module",
        "lm_head_module",
        "mom2_adjustment",
        "mom2_dataset",
        "mom2_n_samples",
        "mom2_dtype",
    ]
)
# Fields that state a fact about the model and are checked against it; they cannot change a number.
CHECKED_ONLY = frozenset({"fact_token", "v_loss_layer", "rewrite_module_tmp"})


class Hyperparameters(BaseModel):
    """Everything that shapes an edit; names follow the released code of MEMIT and AlphaEdit where it has one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[int, ...] = Field(
        min_length=1, description="Edited layers, in ascending order; targets sit at the last"
    )
    v_lr: Positive = Field(description="Adam's learning rate of the target optimisation")
    v_num_grad_steps: int = Field(ge=1, description="Forwards of the target optimisation; one more than its steps")
    v_weight_decay: float = Field(ge=0, description="Weight of |delta| / |h0|^2")
    clamp_norm_factor: Positive = Field(description="Largest |delta| in units of |h0|")
    kl_factor: float = Field(ge=0, description="Weight of the KL term at the subject's last token of '{} is a'")
    v_stop_loss: float = Field(
        default=0.05, ge=0, description="A request stops below this loss (0.05 in released code)"
    )
    requests_per_pass: int = Field(default=32, ge=1, description="Requests optimised at once; bounds memory")
    mom2_update_weight: Positive | None = Field(default=None, description="Lambda: weight of C0 in the prior")
    nullspace_threshold: Positive | None = Field(default=None, description="Null space: eigenvalues of C0 below this")
    nullspace_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Null space: this share of C0's eigen-directions, smallest first, instead of a threshold",
    )
    L2: Positive | None = Field(default=None, description="Ridge inside the null space")
    energy_ratio: Share | None = Field(
        default=None, description="SPHERE: principal directions hold this share of energy"
    )
    strength: Share | None = Field(default=None, description="SPHERE: how much of the update along them is removed")
    basis: Literal["current", "pretrained"] = Field(
        default="current",
        description="SPHERE: directions of the current weight (released code) or of W_0 (paper's text)",
    )
    fact_token: Literal["subject_last"] = Field(default="subject_last", description="Where the fact is addressed")
    v_loss_layer: int | None = Field(default=None, description="Checked: must be the model's last layer")
    rewrite_module_tmp: str | None = Field(default=None, description="Checked: must be the family's edited module")

    def identity(self) -> dict[str, Any]:
        """Return what can change a number: every field that is set, without those that are only checked."""
        return self.model_dump(mode="json", exclude=set(CHECKED_ONLY), exclude_none=True)


def build_hyperparameters(values: Mapping[str, Any], *, where: str) -> Hyperparameters:
    """Validate hyperparameters; raises InputError naming the key, with the nearest valid name for an unknown one."""
    known = set(Hyperparameters.model_fields)
    for name in values:
        if name not in known:
            raise unknown_name("hyperparameter", name, known | RELEASED_ONLY, where=where)
    try:
        built = Hyperparameters(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"hyperparameter '{place}': {first['msg'].lower()}", where=where) from error
    if list(built.layers) != sorted(set(built.layers)):
        raise InputError("hyperparameter 'layers' must ascend without repetition", where=where)
    return built


def read_hyperparameters(path: Path) -> Hyperparameters:
    """Read a MEMIT-style JSON object, all its keys included; raises InputError for anything it cannot honour."""
    if not path.is_file():
        raise InputError("hyperparameter file not found", where=str(path), remedy="check the path")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", where=f"{path}, line {error.lineno}") from error
    if not isinstance(values, dict):
        raise InputError("hyperparameters must be one JSON object", where=str(path))
    if values.get("layer_selection", "all") != "all":
        raise InputError("only layer_selection 'all' is known", where=f"{path}, key layer_selection")
    return build_hyperparameters({k: v for k, v in values.items() if k not in RELEASED_ONLY}, where=str(path))


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the package."""
    folder = resources.files("sphere_core.presets")
    return sorted(e.name.removesuffix(".yaml") for e in folder.iterdir() if e.name.endswith(".yaml"))


def preset(
    name: str, editor: str, regularizers: tuple[str, ...], overrides: Mapping[str, Any] | None = None
) -> Hyperparameters:
    """Return the preset of one method on one model family, with a user's overrides on top.

    Every value in a preset stands beside its source. Sections are merged in the order `shared`, `editors.EDITOR`,
    `regularizers.NAME`, `combinations.EDITOR+NAME`. Raises InputError for an unknown preset or editor.
    """
    if name not in preset_names():
        raise unknown_name("preset", name, preset_names())
    text = resources.files("sphere_core.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    sections = yaml.safe_load(text)
    if editor not in sections["editors"]:
        raise unknown_name("editor", editor, sections["editors"], where=f"preset '{name}'")
    merged = {**sections["shared"], **sections["editors"][editor]}
    for regularizer in regularizers:
        merged |= sections.get("regularizers", {}).get(regularizer, {})
        merged |= sections.get("combinations", {}).get(f"{editor}+{regularizer}", {})
    values = {key: entry["value"] for key, entry in merged.items()}
    return build_hyperparameters({**values, **(overrides or {})}, where=f"preset '{name}' with overrides")
