"""AdamW and the clipping of gradients, for named tensors."""

from collections.abc import Mapping

import torch

__all__ = ["adamw", "clipped"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
Tensors = Mapping[str, torch.Tensor]


def clipped(slopes: Tensors, largest: float) -> dict[str, torch.Tensor]:
    """Return gradients scaled so that the norm of all together is at most `largest`."""
    device = next(iter(slopes.values())).device
    total = torch.stack([slope.square().sum().to(device) for slope in slopes.values()]).sum().sqrt()
    share = (largest / total).clamp(max=1.0)
    return {key: slope * share.to(slope.device) for key, slope in slopes.items()}


def adamw(
    trained: Tensors, first: Tensors, second: Tensors, slopes: Tensors, rate: float, decay: float, step: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return tensors and both moments after a step of AdamW (arXiv 1711.05101), `step` from 1, on gradients `slopes`.

    Beta 0.9 and 0.999, epsilon 1e-8; decay is decoupled. Nothing is written to.
    """
    moved, m, v = {}, {}, {}
    for key, slope in slopes.items():
        m[key] = _BETA1 * first[key] + (1 - _BETA1) * slope
        v[key] = _BETA2 * second[key] + (1 - _BETA2) * slope.square()
        scaled = (m[key] / (1 - _BETA1**step)) / ((v[key] / (1 - _BETA2**step)).sqrt() + _EPSILON)
        moved[key] = trained[key] * (1 - rate * decay) - rate * scaled
    return moved, m, v
