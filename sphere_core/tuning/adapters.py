"""What a fine-tuning trains for one parameter, and how the parameter follows from it.

An adapter is trained through the weight that it gives: the network holds W', its gradient G = dL/dW' is taken as for
full fine-tuning, and the chain rule gives those of the factors. That is exact, needs no module of its own in the
network, and what is scored is W' itself. It costs a gradient of W's size where peft's form needs only the factors'.
Weights are canonical, `[d_out, d_in]`, all tensors fp32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

__all__ = ["Dora", "Lora", "Plain", "Trained"]

Tensors = Mapping[str, torch.Tensor]


class Trained(Protocol):
    """How one parameter is trained; `base` is what it was before, `trained` the tensors that the optimiser moves."""

    def start(self, base: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the tensors before the first step, by name; they give `base`."""
        ...

    def weight(self, base: torch.Tensor, trained: Tensors) -> torch.Tensor:
        """Return the parameter that these tensors give."""
        ...

    def gradients(self, base: torch.Tensor, trained: Tensors, gradient: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the gradients of the tensors from that of the parameter."""
        ...


@dataclass(frozen=True)
class Plain:
    """The parameter itself."""

    def start(self, base: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the parameter."""
        return {"W": base}

    def weight(self, base: torch.Tensor, trained: Tensors) -> torch.Tensor:
        """Return the parameter."""
        return trained["W"]

    def gradients(self, base: torch.Tensor, trained: Tensors, gradient: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the parameter's own gradient."""
        return {"W": gradient}


@dataclass(frozen=True)
class Lora:
    """W' = W + s B A, with A `[r, d_in]`, B `[d_out, r]`, s = alpha / r (arXiv 2106.09685, Eq. 3).

    B begins at zero, A uniform in +-1 / sqrt(d_in): what released implementations draw, the paper's text says
    Gaussian. There is no dropout.
    """

    rank: int
    scale: float

    def start(self, base: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return A and B."""
        d_out, d_in = base.shape
        # Drawn on the host, so that the numbers do not depend on the device.
        drawn = torch.rand(self.rank, d_in, generator=generator)
        return {
            "A": ((2 * drawn - 1) / d_in**0.5).to(base.device),
            "B": torch.zeros(d_out, self.rank, device=base.device),
        }

    def weight(self, base: torch.Tensor, trained: Tensors) -> torch.Tensor:
        """Return W + s B A."""
        return base + self.scale * (trained["B"] @ trained["A"])

    def gradients(self, base: torch.Tensor, trained: Tensors, gradient: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return s B^T G and s G A^T."""
        return {
            "A": self.scale * (trained["B"].T @ gradient),
            "B": self.scale * (gradient @ trained["A"].T),
        }


@dataclass(frozen=True)
class Dora:
    """W' = m V / |V|, row by row, with V = W + s B A and m `[d_out, 1]` (arXiv 2402.09353, Eq. 5).

    |V| counts as a constant in gradients, as the paper proposes (its Eq. 11). m begins at |W|.
    """

    lora: Lora

    def start(self, base: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return A, B and m."""
        return {**self.lora.start(base, generator), "m": base.norm(dim=1, keepdim=True)}

    def weight(self, base: torch.Tensor, trained: Tensors) -> torch.Tensor:
        """Return m V / |V|."""
        directions = self.lora.weight(base, trained)
        scaled: torch.Tensor = trained["m"] / directions.norm(dim=1, keepdim=True) * directions
        return scaled

    def gradients(self, base: torch.Tensor, trained: Tensors, gradient: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return LoRA's gradients of (m / |V|) G, and sum_j G_ij V_ij / |V_i|."""
        directions = self.lora.weight(base, trained)
        norms = directions.norm(dim=1, keepdim=True)
        found = self.lora.gradients(base, trained, trained["m"] / norms * gradient)
        return {**found, "m": (gradient * directions).sum(dim=1, keepdim=True) / norms}
