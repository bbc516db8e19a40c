"""Gradient descent on one matrix of a memory, as MEMOIR and WISE do it: SGD with a stop at a loss that no longer moves.

g <- g min(1, clip / |g|),     w <- w - lr (g + weight_decay w)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["DescentSettings", "descend"]

# A loss that a step has changed by no more than this does not move (both releases).
_STILL = 1e-4


@dataclass(frozen=True)
class DescentSettings:
    """Rate, most steps, decay, the largest norm of a gradient (None: any), and the loss below which it may stop."""

    lr: float
    steps: int
    weight_decay: float
    clip: float | None
    stop_loss: float


def descend(
    start: torch.Tensor,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    settings: DescentSettings,
    *,
    after_step: Callable[[torch.Tensor], torch.Tensor] = lambda weight: weight,
) -> tuple[torch.Tensor, int]:
    """Return the matrix, fp32, that lowers a loss from `start` on, and the number of steps that were taken.

    `after_step` projects or masks the matrix. The loss is looked at before each step: it ends with the first that is at
    most `stop_loss` and within 1e-4 of the one before.
    """
    weight, before = start.detach().float(), torch.inf
    for step in range(settings.steps):
        leaf = weight.clone().requires_grad_(True)
        loss = loss_of(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
        now = float(loss.detach())
        if now <= settings.stop_loss and abs(now - before) <= _STILL:
            return weight, step
        before = now
        if settings.clip is not None:
            norm = torch.linalg.vector_norm(gradient)
            gradient = gradient * (settings.clip / norm.clamp_min(settings.clip))
        weight = after_step(weight - settings.lr * (gradient + settings.weight_decay * weight))
    return weight, settings.steps
