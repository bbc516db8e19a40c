"""What a fine-tuning does, as plain data. Loads no torch."""

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["TuningSettings", "TuningSpec"]

# Raised whenever a change of this code changes the numbers of a fine-tuning.
TUNING_VERSION = 1


class TuningSettings(BaseModel):
    """AdamW (beta 0.9 and 0.999, epsilon 1e-8, decoupled decay) on adapters or on the weights themselves.

    Full fine-tuning of `all` layers trains every parameter of the network; of `edited` or `others`, every parameter
    of those decoder layers. Adapters are on the linear modules of the layers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["lora", "dora", "full"] = Field(
        description="LoRA (arXiv 2106.09685), DoRA (arXiv 2402.09353), or the weights themselves"
    )
    rank: int | None = Field(default=None, ge=1, description="Rank of an adapter")
    alpha: float | None = Field(default=None, gt=0, description="An adapter's change is alpha / rank times B A")
    modules: tuple[str, ...] | None = Field(
        default=None, description="Linear modules with an adapter, by the last part of their names; default: all"
    )
    layers: Literal["all", "edited", "others"] = Field(
        description="Which decoder layers: all, those that the method edits, or the others"
    )
    lr: float = Field(gt=0, description="Learning rate")
    weight_decay: float = Field(default=0.0, ge=0, description="Decay of AdamW; 0 is none")
    steps: int = Field(ge=1, description="Optimiser steps")
    batch_size: int = Field(ge=1, description="Texts in a step; the texts are shuffled again in every epoch")
    max_length: int = Field(ge=2, description="Longer texts are cut there, in tokens")
    warmup_steps: int = Field(default=0, ge=0, description="Steps over which the rate rises linearly from 0")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="The rate after that: constant, or falling to 0 at the last step"
    )
    max_grad_norm: float | None = Field(
        default=None, gt=0, description="Largest norm of all gradients together; default: no limit"
    )

    @model_validator(mode="after")
    def _adapter_has_a_rank(self) -> Self:
        given = [name for name in ("rank", "alpha", "modules") if getattr(self, name) is not None]
        if self.method == "full" and given:
            raise ValueError(f"`{given[0]}` belongs to an adapter: leave it out, or give method: lora or dora")
        if self.method != "full" and (self.rank is None or self.alpha is None):
            raise ValueError(f"{self.method} needs `rank` and `alpha`")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be less than steps ({self.steps})")
        return self

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, from 1."""
        return self.lr * self._share(step)

    def _share(self, step: int) -> float:
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        done = (step - 1 - self.warmup_steps) / (self.steps - self.warmup_steps)
        if self.schedule == "linear":
            return 1 - done
        return 1.0 if self.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))


class TuningSpec(BaseModel):
    """Everything of a fine-tuning that can change its numbers, beside the trajectory that it follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edits: int = Field(ge=1, description="Edit count of the checkpoint that is fine-tuned")
    settings: TuningSettings
    data: dict[str, Any] = Field(description="Digests of the texts, how many are taken, and which are left out")

    def identity(self) -> dict[str, Any]:
        """Return what enters the identity of a trajectory."""
        settings = self.settings.model_dump(mode="json", exclude_defaults=True)
        return {"version": TUNING_VERSION, "edits": self.edits, "settings": settings, "data": self.data}
