"""Rows without their padding: the tokens that count, one after another, for the layers that act on each token alone.

A group of rows has the width of its longest: on an accelerator, where all rows are one group, a third of its positions
or more are padding. What linear layers and norms give for a token does not depend on its row, so that they take
`[1, N, h]`; only attention sees rows again.

Symbols: r rows, s positions of the longest, N tokens that are not padding, h width; K key heads, w head width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["TokenPacking"]


@dataclass(frozen=True)
class TokenPacking:
    """Where the tokens of rows of `spans` `[r]` (on the host) are among r s positions.

    Nothing is computed on padding but what attention gives it, which is dropped; there `unpacked` repeats the first
    token, which no row attends to, so that its gradient is zero.
    """

    spans: torch.Tensor
    span: int
    _made: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def packed(self, values: torch.Tensor) -> torch.Tensor:
        """Return `[1, N, ...]` of `[r, s, ...]`."""
        inside, _ = self._indices(values.device)
        tokens: torch.Tensor = values.flatten(0, 1).index_select(0, inside)
        return tokens[None]

    def unpacked(self, values: torch.Tensor) -> torch.Tensor:
        """Return `[r, s, ...]` of `[1, N, ...]`."""
        _, places = self._indices(values.device)
        rows: torch.Tensor = values[0].index_select(0, places).unflatten(0, (len(self.spans), self.span))
        return rows

    def unpacked_heads(self, values: torch.Tensor) -> torch.Tensor:
        """Return `[r, K, s, w]` of `[1, K, N, w]`."""
        _, places = self._indices(values.device)
        rows: torch.Tensor = values[0].index_select(1, places).unflatten(1, (len(self.spans), self.span))
        return rows.transpose(0, 1)

    def packed_call(self, arguments: Mapping[str, Any], known: dict[int, torch.Tensor]) -> dict[str, Any]:
        """Return a layer's arguments with its tensors `[r, s, ...]` packed; `known` keeps what layers share one tensor.

        Caches and masks are left as they are.
        """

        def pack(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                if id(value) not in known:
                    known[id(value)] = self.packed(value)
                return known[id(value)]
            return tuple(pack(item) for item in value) if isinstance(value, tuple) else value

        return {name: pack(value) for name, value in arguments.items()}

    def _indices(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the positions `[N]` of the tokens, and the tokens `[r s]` of the positions, on a device."""
        if device not in self._made:
            inside = torch.arange(self.span)[None] < self.spans[:, None]
            places = (inside.flatten().cumsum(0) - 1).masked_fill(~inside.flatten(), 0)
            self._made[device] = (inside.flatten().nonzero().squeeze(1).to(device), places.to(device))
        return self._made[device]
