"""Hyperparameters of a method: validated, cited in presets, and read from MEMIT-style JSON unchanged."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.json_files import read_json
from sphere_core.foundation.yaml_text import parse_yaml

__all__ = [
    "Hyperparameters",
    "build_hyperparameters",
    "preset",
    "preset_names",
    "preset_sources",
    "read_hyperparameters",
]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]

# Keys of released files that name what the model's family already says, or where statistics come from.
RELEASED_ONLY = frozenset(
    [
        "model_name",
        "layer_selection",
        "layer_module_tmp",
        "mlp_module_tmp",
        "attn_module_tmp",
        "ln_f_module",
        "lm_head_module",
        "mom2_dataset",
        "mom2_n_samples",
        "mom2_dtype",
        "context_template_length_params",
        "max_length",
    ]
)
# Fields that state a fact about the model and are checked against it; they cannot change a number.
CHECKED_ONLY = frozenset({"fact_token", "v_loss_layer", "rewrite_module_tmp"})


def _optional(description: str) -> Any:
    return Field(default=None, description=description)


class Hyperparameters(BaseModel):
    """Everything that shapes an edit; names follow released code where it has one. A method says which it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[int, ...] = Field(min_length=1, description="Edited layers, ascending; targets sit at the last")
    fact_token: Literal["subject_last"] = Field(default="subject_last", description="Where the fact is addressed")
    v_loss_layer: int | None = _optional("Checked: must be the model's last layer")
    rewrite_module_tmp: str | None = _optional("Checked: must be the family's edited module")

    # Targets.
    v_lr: Positive | None = _optional("Adam's learning rate of the target optimisation")
    v_num_grad_steps: Count | None = _optional("Forwards of the target optimisation; one more than its steps")
    v_weight_decay: NotNegative | None = _optional("Weight of |delta| / |h0|^2")
    clamp_norm_factor: Positive | None = _optional("Largest |delta| in units of |h0|")
    kl_factor: NotNegative | None = _optional("Weight of the KL term at the subject's last token of '{} is a'")
    v_stop_loss: NotNegative = Field(default=0.05, description="A request stops below this loss (0.05 as released)")
    requests_per_pass: Count = Field(default=32, description="Requests optimised at once; bounds memory")
    prob_cutoff: int | None = _optional(
        "ENCORE: forwards with every target token most probable, then stop (sign ignored)"
    )

    # Prior and history of the least-squares step.
    mom2_adjustment: bool = Field(default=True, description="ROME: weigh the key by C0^-1; off: by itself alone")
    mom2_update_weight: Positive | None = _optional("lambda: weight of C0 in the prior")
    update_norm_lambda: NotNegative | None = _optional("lambda_n: ridge added to the prior (ENCORE, EMMET)")
    emmet_lambda: Positive | None = _optional("EMMET: mu, scales the prior for batches of more than one")
    nullspace_threshold: Positive | None = _optional("Null space: eigenvalues of C0 below this")
    nullspace_share: Annotated[float, Field(gt=0, lt=1)] | None = _optional(
        "Null space: this share of C0's eigen-directions, smallest first, instead of a threshold"
    )
    L2: Positive | None = _optional("Ridge inside the null space")
    history_weight: NotNegative = Field(default=1.0, description="Weight of earlier keys in A; 0 drops them")
    history_window: Count | None = _optional("Keep only this many of the latest keys")
    evoedit_threshold: Positive | None = _optional("EvoEdit: singular values of P K above this are projected out")
    lyaplock_alpha: Positive | None = _optional("LyapLock: preservation budget in units of the first batch's loss")
    nse_alpha: NotNegative | None = _optional("NSE: requests nearer to their target than this are done")
    nse_upper_bound: Positive | None = _optional("NSE: requests farther from their target than this are left")
    neuron_threshold: Share | None = _optional("NSE: share of key mass whose neurons are edited")
    max_iterations: Count | None = _optional("NSE: passes over a batch; as released, the last one only checks")

    # Gradient editors.
    lr: Positive | None = _optional("Learning rate (FT: Adam; UltraEdit: of the value step)")
    num_steps: Count | None = _optional("FT: epochs over the batch")
    batch_size: Count | None = _optional("FT, UltraEdit: requests in one backward pass")
    weight_decay: NotNegative | None = _optional("FT: Adam's weight decay")
    ft_stop_loss: NotNegative = Field(default=0.01, description="FT: stops below this mean loss (0.01 as released)")
    norm_constraint: Positive | Literal[False] | None = _optional("FT-L: largest change of any weight entry")
    norm_reference: Literal["batch", "trajectory"] = Field(
        default="batch", description="FT-L: change since the start of the batch (as released) or of the trajectory"
    )
    ultraedit_variance: Literal["unbiased", "exact"] | None = _optional(
        "UltraEdit: what a mini-batch adds to the running squares, m times its unbiased variance (release) or its sum"
    )
    ultraedit_weighting: Literal["tokens", "requests"] | None = _optional(
        "UltraEdit: the loss is a mean over target tokens (release), or each request counts alike"
    )
    ultraedit_sharing: Literal["shape", "site"] | None = _optional(
        "UltraEdit: one normalisation for all sites of one shape (release), or one per site"
    )

    # Regularizers.
    energy_ratio: Share | None = _optional("SPHERE: principal directions hold this share of the neurons' energy")
    strength: Share | None = _optional("SPHERE: how much of the update along them is removed")
    basis: Literal["current", "pretrained"] = Field(
        default="current",
        description="SPHERE: directions of the current weight (released code) or of W_0 (paper's text)",
    )
    rect_keep: Annotated[float, Field(gt=0, le=1)] | None = _optional("RECT: share of entries kept")
    revive_threshold: Share | None = _optional("REVIVE: share of the spectrum that is protected")
    revive_energy: Literal["sum", "squares"] = Field(default="sum", description="REVIVE: of singular values or squares")
    revive_weight: Literal["base", "current"] = Field(default="base", description="REVIVE: whose singular vectors")
    revive_basis: Literal["complement", "compact"] = Field(
        default="complement", description="REVIVE: keep what lies outside the compact SVD's basis, or drop it"
    )
    nas_factor: Positive | None = _optional("NAS: targets longer than this many anchors are skipped")
    anchor_norm: Positive | None = _optional("NAS: the anchor; left out, it is taken from the first batch")
    simie_lambda: Positive | None = _optional("SimIE: ridge of the ideal-editor correction")
    simie_start: Literal["unedited", "current"] | None = _optional(
        "SimIE: the weights that each single edit is computed on (release: init_model true, or false)"
    )
    feedback_ridge: NotNegative | None = _optional("Error feedback: ridge added to the system (release: 1; unset: 0)")
    gate_measure: Literal["bits", "exact_match"] | None = _optional(
        "Gate: what anchors may lose, bits per target token (each rise, never a fall) or the share still answered"
    )
    gate_search: Literal["halving", "bisection"] | None = _optional("Gate: how a smaller scale is looked for")
    gate_min_scale: Annotated[float, Field(gt=0, lt=1)] | None = _optional(
        "Gate: bisection gives up below this share of the update"
    )
    gate_budget: NotNegative | None = _optional(
        "Gate: bits per token that earlier edits may lose in a batch, on average"
    )
    gate_anchors: Count | None = _optional("Gate: how many of the latest earlier edits are measured")
    gate_steps: NotNegative | None = _optional("Gate: halvings of the update that are tried before it is rejected")

    def identity(self) -> dict[str, Any]:
        """Return what can change a number: every field that is set, without those that are only checked."""
        return self.model_dump(mode="json", exclude=set(CHECKED_ONLY), exclude_none=True)

    def number(self, name: str) -> float:
        """Return a numeric field that the method needs; raises InputError if it is not set."""
        value = getattr(self, name)
        if value is None or isinstance(value, str):
            raise InputError(f"the hyperparameter '{name}' is not set", remedy=f"set '{name}'")
        return float(value)


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
    """Read a MEMIT-style JSON object, all its keys included; raises InputError for unknown keys and bad values.

    Keys that repeat what the model's family says, or that tell how statistics and context templates were once
    made, are accepted and have no effect (`RELEASED_ONLY`).
    """
    values = read_json(path, what="hyperparameter file")
    if not isinstance(values, dict):
        raise InputError("hyperparameters must be one JSON object", where=str(path))
    if values.get("layer_selection", "all") != "all":
        raise InputError("only layer_selection 'all' is known", where=f"{path}, key layer_selection")
    return build_hyperparameters({k: v for k, v in values.items() if k not in RELEASED_ONLY}, where=str(path))


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the package."""
    folder = resources.files("sphere_core.presets")
    return sorted(e.name.removesuffix(".yaml") for e in folder.iterdir() if e.name.endswith(".yaml"))


def preset_sources(name: str, editor: str, regularizers: tuple[str, ...]) -> dict[str, tuple[Any, str]]:
    """Return each value of one method in a preset with its source; raises InputError for an unknown preset or editor.

    `name` is a preset of the package or the path of a YAML file of the same form. Sections are merged in the order
    `shared`, `editors.EDITOR`, `regularizers.NAME`, `combinations.EDITOR+NAME`.
    """
    sections = _sections(name)
    if editor not in sections["editors"]:
        raise unknown_name("editor", editor, sections["editors"], where=f"preset '{name}'")
    merged = {**sections["shared"], **sections["editors"][editor]}
    for regularizer in regularizers:
        merged |= sections.get("regularizers", {}).get(regularizer, {})
        merged |= sections.get("combinations", {}).get(f"{editor}+{regularizer}", {})
    return {key: (entry["value"], _spelled_out(entry["source"], sections["sources"])) for key, entry in merged.items()}


def _sections(name: str) -> Mapping[str, Any]:
    if not name.endswith((".yaml", ".yml")):
        if name not in preset_names():
            raise unknown_name("preset", name, preset_names())
        text = resources.files("sphere_core.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise InputError("preset file not found", where=name, remedy="check the path; 'sphere calibrate' writes one")
    try:
        sections = parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}", where=name) from error
    needed = ("sources", "shared", "editors")
    if not isinstance(sections, dict) or any(not isinstance(sections.get(key), dict) for key in needed):
        raise InputError(f"a preset has the sections {', '.join(needed)}", where=name, remedy="see sphere_core/presets")
    return sections


def _spelled_out(source: str, abbreviations: Mapping[str, str]) -> str:
    """Replace `[R]` and its like by what the preset says it stands for."""
    for short, long in abbreviations.items():
        source = source.replace(f"[{short}]", long)
    return source


def preset(
    name: str, editor: str, regularizers: tuple[str, ...], overrides: Mapping[str, Any] | None = None
) -> Hyperparameters:
    """Return the preset of one method on one model family, with a user's overrides on top.

    Raises InputError for an unknown preset or editor, or a value that is not valid.
    """
    values = {key: value for key, (value, _) in preset_sources(name, editor, regularizers).items()}
    return build_hyperparameters({**values, **(overrides or {})}, where=f"preset '{name}' with overrides")
