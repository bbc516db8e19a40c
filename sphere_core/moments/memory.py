"""How many tokens one forward of a pass may hold, from the memory that is free."""

from collections.abc import Sequence

import torch

from sphere_core.models.editable import EditableModel
from sphere_core.moments.packing import Packing
from sphere_core.numerics.placement import free_memory

__all__ = ["forward_tokens"]

# Activations of one layer alive at the same time, in units of its widest: gate, up, product and what norms hold.
_ALIVE = 6
_LEAST = 512


def forward_tokens(
    skeleton: EditableModel, layers: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> int:
    """Return the tokens of one forward: 16384, or half as many until weights, sums and activations fit what is free.

    An estimate for an attention that keeps no score matrix; at least 512. More than 16384 would gain nothing: products
    are large enough by then. A model split over accelerators is taken to fit.
    """
    if isinstance(device, str):
        return Packing.forward_tokens
    sites = skeleton.open_sites(layers)
    size = dtype.itemsize
    weights = sum(parameter.numel() for parameter in skeleton.network.parameters()) * size
    widths = [site.d_in for site in sites]
    # Two float64 sums, one fp32 product.
    sums = sum(2 * 8 * width**2 for width in widths) + 4 * max(widths) ** 2
    on_host = device.type == "cpu"
    room = free_memory(device) - weights - (sums if on_host else 0)
    each = size * (sum(widths) + _ALIVE * max(widths)) + 4 * max(widths)
    tokens = Packing.forward_tokens
    while tokens > _LEAST and tokens * each > room // 2:
        tokens //= 2
    return tokens
