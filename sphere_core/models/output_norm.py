"""The norm between a site and the residual stream (Gemma 2 and 3, OLMo 2), and how to write through it.

In these families the layer adds not v = W k but u = N(v) = g * v / sqrt(mean(v^2) + eps), which has the same length
in units of g for every v: a target at the layer's output, h + c, requires u + c, which lies off the ellipsoid of N's
range. MEMIT's residual R = c would be added in front of N, in other units, and rotated and shrunk by it. Instead,
written is

    R = s x - v,   s = sqrt(mean(v^2) + eps),   x = argmin |g * x - (u + c)|  over  |x| = |v| / s

the rotation of v, at its own length, whose image under N is nearest to u + c; N(v + R) = g * x exactly, and R = c if
g and s are 1 and u + c is on the sphere. What lies outside the range of N remains in the residual of the later layers.

Symbols: o width, n requests; x = g (u + c) / (g^2 + mu) with mu the root of |x(mu)| = |v| / s above -min g^2.
"""

from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["OutputNorm"]

# Halvings of the bracket around mu: below the spacing of float64.
_HALVINGS = 100


@dataclass(frozen=True)
class OutputNorm:
    """An RMS norm without offset: `gain` g `[o]` float64, and `epsilon`."""

    gain: torch.Tensor
    epsilon: float

    @classmethod
    def of(cls, module: nn.Module, *, width: int, epsilon: float) -> "OutputNorm":
        """Read the gain of a norm module from its output for a row of ones, independent of how it stores it."""
        weight = next(module.parameters())
        with torch.no_grad():
            answer: torch.Tensor = module(torch.ones(1, width, device=weight.device))
        return cls(answer[0].double() * (1 + epsilon) ** 0.5, epsilon)

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        """Return N(v) of v `[o, n]`, float64."""
        wide = values.double()
        return self.gain.to(wide)[:, None] * wide / self._scale(wide)

    def residuals(self, values: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Return R `[o, n]`, float64: what v `[o, n]` must gain so that N(v) gains the nearest possible to `change`."""
        wide = values.double()
        scale = self._scale(wide)
        gain = self.gain.to(wide)[:, None]
        wanted = gain * (gain * wide / scale + change.to(wide))
        radius = torch.linalg.vector_norm(wide, dim=0, keepdim=True) / scale
        turned = wanted / (gain.square() + _multiplier(gain.square(), wanted, radius))
        # The last bits, and the case without a root: a gain of exactly zero.
        turned = turned * (radius / torch.linalg.vector_norm(turned, dim=0, keepdim=True))
        residuals: torch.Tensor = scale * turned - wide
        return residuals

    def _scale(self, values: torch.Tensor) -> torch.Tensor:
        return (values.square().mean(dim=0, keepdim=True) + self.epsilon).sqrt()


def _multiplier(squares: torch.Tensor, wanted: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Return mu `[1, n]` with |wanted / (squares + mu)| = radius, by bisection; the norm falls as mu grows."""
    least, place = squares.min(dim=0, keepdim=True)
    length = torch.linalg.vector_norm(wanted, dim=0, keepdim=True)
    low: torch.Tensor = wanted[place[0]].abs() / radius - least
    high: torch.Tensor = length / radius - least
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        longer = torch.linalg.vector_norm(wanted / (squares + middle), dim=0, keepdim=True) > radius
        low, high = torch.where(longer, middle, low), torch.where(longer, high, middle)
    return (low + high) / 2
