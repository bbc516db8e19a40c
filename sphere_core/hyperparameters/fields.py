"""The hyperparameters of all methods: names, ranges, and the methods that each belongs to."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters.places import Place, places_of

__all__ = ["Hyperparameters"]


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _not_spread(value: str | None) -> str | None:
    """Return None for the default, which enters no identity."""
    return None if value == "spread" else value


def _not_every_token(value: str | None) -> str | None:
    return None if value == "every_token" else value


def _not_true(value: bool | None) -> bool | None:
    return None if value else value


# Beyond these bounds no setting of any paper lies, by many orders of magnitude.
Number = Annotated[float, BeforeValidator(_no_boolean)]
Positive = Annotated[Number, Field(ge=1e-30, le=1e15)]
Rate = Annotated[Number, Field(ge=1e-30, le=1e3)]
NotNegative = Annotated[Number, Field(ge=0, le=1e15)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, le=100_000)]
Share = Annotated[Number, Field(ge=0, le=1)]
OpenShare = Annotated[Number, Field(gt=0, lt=1)]
Layer = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0, le=100_000)]

# Fields that state a fact about the model and are checked against it; they cannot change a number.
CHECKED_ONLY = frozenset({"fact_token", "v_loss_layer", "rewrite_module_tmp"})
# Paths of files and folders whose content has a digest of its own among the fields.
PLACES_ONLY = frozenset({"serac_classifier", "serac_counterfactual", "retrieve_encoder", "neurons_file"})


def _optional(description: str) -> Any:
    return Field(default=None, description=description)


_Settings = TypeVar("_Settings", bound=BaseModel)


class Hyperparameters(BaseModel):
    """Everything that shapes an edit; names follow released code where it has one. A method says which it needs."""

    # The validator is built when it is first used: tables read the names and types of the fields alone.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    layers: tuple[Layer, ...] = Field(min_length=1, description="Edited layers, ascending; targets sit at the last")
    sites: (
        dict[Annotated[str, Field(pattern="^[a-z_]+$")], Annotated[tuple[Layer, ...], Field(min_length=1)]] | None
    ) = _optional("Edited matrices by name, with their layers: {gate: [11], up: [18]}; left out, the down projections")
    fact_token: Literal["subject_last"] = Field(default="subject_last", description="Where the fact is addressed")
    v_loss_layer: Layer | None = _optional("Checked: must be the model's last layer")
    rewrite_module_tmp: str | None = _optional("Checked: must be the family's edited module")

    # Targets.
    v_lr: Rate | None = _optional("Adam's learning rate of the target optimisation")
    v_num_grad_steps: Count | None = _optional("Forwards of the target optimisation; one more than its steps")
    v_weight_decay: NotNegative | None = _optional("Weight of |delta| / |h0|^2")
    clamp_norm_factor: Positive | None = _optional("Largest |delta| in units of |h0|")
    kl_factor: NotNegative | None = _optional("Weight of the KL term at the subject's last token of '{} is a'")
    v_stop_loss: NotNegative = Field(default=0.05, description="A request stops below this loss (0.05 as released)")
    requests_per_pass: Count = Field(default=32, description="Requests optimised at once; bounds memory")
    prob_cutoff: Annotated[int, BeforeValidator(_no_boolean), Field(ge=-1000, le=1000)] | None = _optional(
        "ENCORE: forwards with every target token most probable, then stop (sign ignored)"
    )
    encore_stop: Annotated[Literal["every_token", "five_tokens"] | None, AfterValidator(_not_every_token)] = _optional(
        "ENCORE: what prob_cutoff counts: every target token in every context (every_token, as if left out), or exactly"
        " five right tokens in the contexts after the first (five_tokens, release)"
    )

    targets: Annotated[Literal["spread", "forward", "root"] | None, AfterValidator(_not_spread)] = _optional(
        "Where targets are optimised: at the last edited layer and spread over the layers before it (spread, as if left"
        " out; root, MoEEdit), or at the first, each later layer's own target by one forward (forward, FE)"
    )

    # Prior and history of the least-squares step.
    mom2_adjustment: bool = Field(default=True, description="ROME: weigh the key by C0^-1; off: by itself alone")
    mom2_update_weight: Positive | None = _optional("lambda: weight of C0 in the prior")
    update_norm_lambda: NotNegative | None = _optional("lambda_n: ridge added to the prior (ENCORE, EMMET)")
    emmet_lambda: Positive | None = _optional("EMMET: mu, scales the prior for batches of more than one")
    nullspace_threshold: Positive | None = _optional("Null space: eigenvalues of C0 below this")
    nullspace_share: OpenShare | None = _optional(
        "Null space: this share of C0's eigen-directions, smallest first, instead of a threshold"
    )
    L2: Positive | None = _optional("Ridge inside the null space")
    unseen_experts: Literal["frozen", "free"] | None = _optional(
        "MoEEdit: experts that no token of the corpus reached are never written (frozen, release) or anywhere (free)"
    )
    history_weight: NotNegative = Field(default=1.0, description="Weight of earlier keys in A; 0 drops them")
    history_window: Count | None = _optional("Keep only this many of the latest keys")
    evoedit_threshold: Positive | None = _optional("EvoEdit: singular values of P K above this are projected out")
    lyaplock_alpha: Positive | None = _optional("LyapLock: preservation budget in units of the first batch's loss")
    nse_alpha: NotNegative | None = _optional("NSE: requests nearer to their target than this are done")
    nse_upper_bound: Positive | None = _optional("NSE: requests farther from their target than this are left")
    nse_target_space: Annotated[bool | None, AfterValidator(_not_true)] = _optional(
        "NSE: false optimises targets without the space before them, as the release does; true is as if left out"
    )
    neuron_threshold: Share | None = _optional("NSE: share of key mass whose neurons are edited")
    max_iterations: Count | None = _optional("NSE: passes over a batch; as released, the last one only checks")

    # Gradient editors.
    lr: Rate | None = _optional(
        "Learning rate (FT: Adam; LoRA: AdamW; UltraEdit: of the value step; MEMOIR, WISE: SGD; GRACE: Adam)"
    )
    num_steps: Count | None = _optional(
        "FT, LoRA: epochs over the batch; MEMOIR, WISE: most steps per edit; GRACE: steps"
    )
    batch_size: Count | None = _optional("FT, LoRA, UltraEdit: requests in one backward pass")
    weight_decay: NotNegative | None = _optional("FT: Adam's weight decay; LoRA: AdamW's; MEMOIR, WISE: SGD's")
    ft_stop_loss: NotNegative = Field(default=0.01, description="FT: stops below this mean loss (0.01 as released)")
    norm_constraint: Positive | Literal[False] | None = _optional("FT-L, WISE: largest change of any weight entry")
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

    crisp_energy: OpenShare | None = _optional(
        "CrispEdit: directions that hold this share of the curvature are left as they are"
    )

    lora_rank: Count | None = _optional("LoRA, EBLoRA: r, the rank of a batch's change")
    lora_scale: Positive | None = _optional("LoRA: alpha / r of the adapter; EBLoRA: the same as c in dW = c s U V^T")
    lora_seed: Layer | None = _optional("LoRA: seed of the adapters' first factors")
    lora_start: Annotated[Number, Field(ge=-1e3, le=1e3)] | None = _optional(
        "EBLoRA: s at the start; a negative one goes against the gradient"
    )
    lora_width: Positive | None = _optional("EBLoRA: w; steps of U and V are divided by sqrt(r / w)")
    memory_share: Share | None = _optional("EBLoRA: the memory spans this share of a batch's squared gradient")

    # Experiments on the spectrum.
    spectrum_levels: Annotated[tuple[NotNegative, ...], Field(min_length=1)] | None = _optional(
        "truncate: share of the spectrum kept, a level per batch; perturb: norm of the noise in units of |W_0|"
    )
    spectrum_share: Literal["sum", "squares", "count"] | None = _optional(
        "truncate, perturb: shares of the singular values, of their squares, or of their number"
    )
    perturb_band: tuple[Share, Share] | None = _optional("perturb: noise lies in directions from and below this place")
    perturb_seed: Layer | None = _optional("perturb: seed of the noise")

    # Editors that change no weight.
    memory_threshold: Share | None = _optional(
        "Above which a memory answers: cosine of a key (NeuralDB), of a prompt's feature (Retrieve), the scope (SERAC);"
        " from which on: share of its mask that a prompt shares with a stored one (MEMOIR)"
    )
    serac_classifier: str | None = _optional("SERAC: folder of the scope's encoder, with its tokenizer")
    serac_counterfactual: str | None = _optional("SERAC: folder of the model that answers inside the scope")
    serac_digest: str | None = _optional("SERAC: digest of both folders' content; found by the plan")
    retrieve_encoder: str | None = _optional(
        "Retrieve: folder of a sentence encoder with its tokenizer; left out, features are those of the edited model"
    )
    retrieve_digest: str | None = _optional("Retrieve: digest of that folder's content; found by the plan")
    neurons_file: str | None = _optional("Neurons: file of the units that were made elsewhere (docs/methods.md)")
    neurons_digest: str | None = _optional("Neurons: sha256 of that file; found by the plan")
    memoir_keep: Count | None = _optional("MEMOIR: inputs of the site that a prompt's mask keeps")
    grace_radius: Positive | None = _optional("GRACE: distance from a new key within which it answers")
    grace_start: Literal["cold", "warm"] | None = _optional(
        "GRACE: a value starts at random (cold, release) or from what the site gives (warm)"
    )
    wise_share: Annotated[Number, Field(gt=0, le=1)] | None = _optional(
        "WISE: share of the entries that a side memory may change"
    )
    wise_margins: tuple[NotNegative, NotNegative, NotNegative] | None = _optional(
        "WISE: alpha, beta, gamma: activation of unrelated texts at most, of edits at least, and their distance"
    )
    wise_ratio: Annotated[Number, Field(ge=0, le=100)] | None = _optional(
        "WISE: a memory answers above this share of its edits' least activation"
    )
    wise_shard_edits: Count | None = _optional("WISE: edits per side memory")
    wise_merge_edits: Count | None = _optional("WISE: edits after which the side memories since the last merge are one")
    wise_density: Annotated[Number, Field(gt=0, le=1)] | None = _optional(
        "WISE: share of each side memory's entries that a merge keeps"
    )
    memory_background: Count | None = _optional("MEMOIR, WISE: unrelated texts, sampled from the unedited model")
    memory_seed: Layer | None = _optional(
        "MEMOIR: seed of the permutation and of the unrelated texts; GRACE: of random starts; WISE: of"
        " the entries that may change and of the unrelated texts"
    )
    memory_stop_loss: NotNegative | None = _optional(
        "MEMOIR, WISE: an edit stops below this loss once it no longer moves"
    )
    gradient_clip: Positive | None = _optional("MEMOIR, LoRA: largest norm of a gradient")

    # Regularizers.
    energy_ratio: Share | None = _optional("SPHERE: principal directions hold this share of the neurons' energy")
    strength: Share | None = _optional("SPHERE: how much of the update along them is removed")
    basis: Literal["current", "pretrained"] = Field(
        default="current",
        description="SPHERE: directions of the current weight (released code) or of W_0 (paper's text)",
    )
    rect_keep: Annotated[Number, Field(gt=0, le=1)] | None = _optional("RECT: share of entries kept")
    balance_strength: Share | None = _optional(
        "Balance: b in S^(1-b), S the update's singular values; 1 makes them all equal"
    )
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
    gate_measure: Literal["bits", "exact_match", "kl"] | None = _optional(
        "Gate: what anchors may lose: bits per target token (each rise, never a fall), the share still answered, or"
        " bits per token that the model's own new answers gain (kl)"
    )
    gate_search: Literal["halving", "bisection"] | None = _optional("Gate: how a smaller scale is looked for")
    gate_min_scale: OpenShare | None = _optional("Gate: bisection gives up below this share of the update")
    gate_budget: NotNegative | None = _optional(
        "Gate: what earlier edits may lose in a batch: bits per token on average, or a share of them (exact_match)"
    )
    gate_anchors: Count | None = _optional("Gate: how many of the latest earlier edits are measured")
    gate_steps: NotNegative | None = _optional("Gate: halvings of the update that are tried before it is rejected")

    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Settings of the rows of plugins, by the row's name"
    )

    @property
    def places(self) -> tuple[Place, ...]:
        """The edited sites in order: those of `sites`, or else the down projections of `layers`."""
        return places_of(self.layers, self.sites)

    def identity(self) -> dict[str, Any]:
        """Return what can change a number: every field that is set, without those that are only checked."""
        unused = set() if self.settings else {"settings"}
        return self.model_dump(mode="json", exclude={*CHECKED_ONLY, *PLACES_ONLY, *unused}, exclude_none=True)

    def settings_of(self, row: str, kind: type[_Settings]) -> _Settings:
        """Return the settings of a plugin's row, typed; defaults if none are given."""
        return kind.model_validate(self.settings.get(row, {}))

    def number(self, name: str) -> float:
        """Return a numeric field that the method needs; raises InputError if it is not set."""
        value = getattr(self, name)
        if value is None or isinstance(value, str):
            raise InputError(f"the hyperparameter '{name}' is not set", remedy=f"set '{name}'")
        return float(value)
