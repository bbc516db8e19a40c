"""Mixtures of experts: a layer's experts as one site, and what reaches each of them.

A token x passes through the k experts that the router chooses, W_e [o, f] the down projection of expert e, a_e(x) [f]
its input and g_e(x) the router's weight, zero for an expert that is not chosen. The layer adds

    sum_e g_e W_e a_e = W q,   W = [W_1 ... W_E] [o, E f],   q = (g_1 a_1; ...; g_E a_E) [E f]

to the residual stream: with gated keys q a mixture is one linear memory, and every equation of a down projection holds.
Experts are modules of transformers that hold them in two tensors, `gate_up_proj` [E, 2 f, h] and `down_proj` [E, o, f].
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Routing", "expert_inputs", "expert_sizes", "gated_inputs", "routings"]


class _Enough(Exception):
    """Raised inside a forward when all that was wanted has been seen."""


@dataclass(frozen=True)
class Routing:
    """What one forward gave a layer's experts: `hidden` `[t, h]` of t tokens (rows flattened), the `experts` `[t, k]`
    that the router chose for each, and their `shares` g `[t, k]`."""

    hidden: torch.Tensor
    experts: torch.Tensor
    shares: torch.Tensor

    def of(self, tokens: torch.Tensor) -> "Routing":
        """Return the routing of some tokens, by their indices or a mask over all of them."""
        there = tokens.to(self.hidden.device)
        return Routing(self.hidden[there], self.experts[there], self.shares[there])


def expert_sizes(module: nn.Module) -> tuple[int, int, int] | None:
    """Return E, o and f of a module of experts; None for any other module."""
    down, inner = getattr(module, "down_proj", None), getattr(module, "gate_up_proj", None)
    if not isinstance(down, nn.Parameter) or not isinstance(inner, nn.Parameter) or not hasattr(module, "act_fn"):
        return None
    if down.ndim != 3:
        return None
    count, outputs, inputs = down.shape
    return (count, outputs, inputs) if inner.shape == (count, 2 * inputs, outputs) else None


@torch.no_grad()
def expert_inputs(
    module: nn.Module, routing: Routing
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield, for every expert that a token was routed to, its number, the tokens `[m]`, their shares `[m]` and inputs
    a_e `[m, f]`, in the network's dtype."""
    weights: Any = module
    for expert in routing.experts.unique().tolist():
        tokens, ranks = (routing.experts == expert).nonzero(as_tuple=True)
        gate, up = nn.functional.linear(routing.hidden[tokens], weights.gate_up_proj[expert]).chunk(2, dim=-1)
        yield expert, tokens, routing.shares[tokens, ranks], weights.act_fn(gate) * up


def gated_inputs(module: nn.Module, routing: Routing) -> torch.Tensor:
    """Return the gated keys q `[t, E f]` of all tokens of a routing, in the network's dtype."""
    sizes = expert_sizes(module)
    if sizes is None:
        raise TypeError(f"{type(module).__name__} holds no experts")
    count, _, width = sizes
    keys = routing.hidden.new_zeros(len(routing.hidden), count, width)
    for expert, tokens, shares, inputs in expert_inputs(module, routing):
        keys[tokens, expert] = (shares[:, None] * inputs).to(keys)
    return keys.flatten(1)


def routings(modules: Sequence[nn.Module], run: Callable[[], object]) -> list[Routing]:
    """Run a forward, which stops once all have been seen, and return what reached each module of experts.

    Raises RuntimeError for one that the forward never reached.
    """
    seen: dict[nn.Module, Routing] = {}

    def observe(module: nn.Module, args: tuple[Any, ...]) -> None:
        hidden, experts, shares = args
        seen[module] = Routing(hidden.detach(), experts.detach(), shares.detach())
        if len(seen) == len(modules):
            raise _Enough

    handles = [module.register_forward_pre_hook(observe) for module in modules]
    try:
        with suppress(_Enough):
            run()
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) < len(modules):
        raise RuntimeError("the forward never reached a layer's experts")
    return [seen[module] for module in modules]
