"""What is measured: a model's shape and a batch, at full size for a card and small for a test, and its random parts."""

from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.models import random_requests, word_tokenizer
from sphere_core.hyperparameters import Hyperparameters, build_hyperparameters
from sphere_core.locate.templates import Contexts
from sphere_core.models import EditableModel, recognise_family
from sphere_core.moments.record import SecondMoments
from sphere_core.numerics.linalg import Subspace
from sphere_core.requests import EditRequest

__all__ = ["FULL", "SMALL", "Setting"]

# Llama-3-8B's values in the files released with AlphaEdit and SPHERE.
_VALUES = {
    "v_lr": 0.1,
    "v_num_grad_steps": 25,
    "v_weight_decay": 0.5,
    "clamp_norm_factor": 0.75,
    "kl_factor": 0.0625,
    # No request stops early: every run does the same work.
    "v_stop_loss": 0.0,
    "mom2_update_weight": 15000,
    "L2": 10.0,
    "nullspace_threshold": 0.02,
    "energy_ratio": 0.5,
    "strength": 0.5,
}
_LEFT_OUT = 40


@dataclass(frozen=True)
class Setting:
    """A Llama of these sizes with edited `layers`; `batch` edits at a time, `history` earlier edits in the second run,
    each placed as a run of `stream` edits is.

    `square` is the side of products in the ceilings and `launches` how many kernels are launched there, `scored` how
    many edits are scored, `repeats` how often a stage runs: the median counts.
    """

    hidden: int
    intermediate: int
    depth: int
    heads: int
    shared_heads: int
    vocabulary: int
    layers: tuple[int, ...]
    dtype: torch.dtype
    batch: int
    steps: int
    history: int
    stream: int
    square: int
    launches: int
    scored: int
    repeats: int

    def config(self) -> LlamaConfig:
        """Return the model's config."""
        return LlamaConfig(
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.depth,
            num_attention_heads=self.heads,
            num_key_value_heads=self.shared_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=2048,
        )

    def model(self, device: torch.device, dtype: torch.dtype | None = None) -> EditableModel:
        """Return a model with random weights, made on the device."""
        config = self.config()
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype or self.dtype)
        try:
            with device:
                network = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(before)
        family = recognise_family(config, where="benchmark")
        return EditableModel(network, word_tokenizer(self.vocabulary), family, base_digest="random")

    def requests(self, model: EditableModel, count: int) -> tuple[list[EditRequest], Contexts]:
        """Return requests of CounterFact's lengths, and the released number of contexts."""
        return random_requests(model, count)

    def hyperparameters(self, **changes: object) -> Hyperparameters:
        """Return the values released for Llama-3-8B, at this setting's layers and steps."""
        values = {**_VALUES, "layers": self.layers, "v_num_grad_steps": self.steps, **changes}
        return build_hyperparameters(values, where="benchmark")

    def moments(self, device: torch.device) -> SecondMoments:
        """Return second moments with a random decaying spectrum, and null spaces that leave 40 directions out."""
        by_layer, spaces = {}, {}
        scales = torch.logspace(1, -3, self.intermediate, dtype=torch.float64, device=device)
        for layer in self.layers:
            torch.manual_seed(layer)
            samples = torch.randn(self.intermediate, self.intermediate, dtype=torch.float64, device=device)
            samples *= scales[:, None]
            moment = samples @ samples.T / self.intermediate
            moment.diagonal().add_(1e-4)
            basis, _ = torch.linalg.qr(torch.randn(self.intermediate, _LEFT_OUT, dtype=torch.float64, device=device))
            by_layer[layer], spaces[layer] = moment.cpu(), Subspace(basis.cpu(), complement=True)
        return SecondMoments(by_layer, 1, {}, spaces)


FULL = Setting(
    hidden=4096,
    intermediate=14336,
    depth=32,
    heads=32,
    shared_heads=8,
    vocabulary=128256,
    layers=(4, 5, 6, 7, 8),
    dtype=torch.bfloat16,
    batch=100,
    steps=25,
    history=2000,
    stream=15_000,
    square=8192,
    launches=100_000,
    scored=500,
    repeats=3,
)
SMALL = Setting(
    hidden=32,
    intermediate=96,
    depth=4,
    heads=4,
    shared_heads=2,
    vocabulary=300,
    layers=(0, 1),
    dtype=torch.float32,
    batch=6,
    steps=5,
    history=8,
    stream=30,
    square=64,
    launches=1000,
    scored=6,
    repeats=1,
)
