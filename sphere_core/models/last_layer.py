"""A layer at the positions whose output is read; of all others it computes keys and values alone.

Behind the last layer a position that is not scored is read by nothing, but attention at the scored ones needs its keys
and values. The layer is called twice: with all positions, until it hands keys and values to its cache, which ends the
call; then with the positions that are read, whose attention gets those keys and values. Exact, and differentiable.

Symbols: m lines, T positions of a line, s of them that are read, h width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from sphere_core.models.layer_calls import CACHE_NAMES, Call, call_layer
from sphere_core.models.token_packing import TokenPacking

__all__ = ["KeysAndValues", "Places", "ReadTokens", "call_layer_at", "with_cache"]


class KeysAndValues(Protocol):
    """What a layer hands its keys and values to, and gets those to attend to from."""

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values to attend to."""
        ...


@dataclass(frozen=True)
class Places:
    """Positions that are read: `lines` `[m, 1]` and `positions` `[m, s]`."""

    lines: torch.Tensor
    positions: torch.Tensor

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Return `[m, s, ...]` of `[m or 1, T, ...]`; what has one line goes with every line."""
        positions = self.positions.to(values.device)
        return values[self.lines.to(values.device) if len(values) > 1 else 0, positions]

    def of_call(self, call: Call, length: int) -> dict[str, Any]:
        """Return a layer's arguments with their tensors `[m or 1, length, ...]` cut to the positions."""

        def cut(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(cut(item) for item in value)
            if not isinstance(value, torch.Tensor) or value.ndim < 2 or value.shape[1] != length:
                return value
            return self.of(value)

        return {name: None if name == "attention_mask" else cut(value) for name, value in call.items()}


def call_layer_at(
    layer: nn.Module, hidden: torch.Tensor, call: Call, places: Places, mask: torch.Tensor, cache: KeysAndValues | None
) -> torch.Tensor:
    """Return the layer's output `[m, s, h]` at some positions of hidden states `[m, T, h]`.

    `mask` is the additive mask of the positions that are read; `cache` changes the keys and values on their way, as it
    would in a call of all positions. A layer that never asks its cache is called with all positions.
    """
    keeper = _Keeper(cache)
    try:
        return places.of(call_layer(layer, hidden, with_cache(call, keeper)))
    except _Kept:
        arguments = {**places.of_call(call, hidden.shape[1]), "attention_mask": mask}
        return call_layer(layer, places.of(hidden), with_cache(arguments, _Given(*keeper.kept)))


def with_cache(call: Call, cache: object) -> Mapping[str, Any]:
    """Return a layer's arguments with another cache."""
    names = CACHE_NAMES & call.keys() or {"past_key_values"}
    return {**call, **dict.fromkeys(names, cache)}


class _Kept(Exception):
    """Raised by the cache: the rest of the call is not required."""


class _Keeper:
    """Keeps what a layer attends to, and ends its call."""

    def __init__(self, cache: KeysAndValues | None) -> None:
        self._cache = cache
        self.kept: tuple[torch.Tensor, ...] = ()

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.kept = (keys, values) if self._cache is None else self._cache.update(keys, values, layer_idx)
        raise _Kept


class _Given:
    """Gives a layer the keys and values of all positions in place of its own."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._given = keys, values

    def update(self, *_: object, **__: object) -> tuple[torch.Tensor, torch.Tensor]:
        return self._given


@dataclass(frozen=True)
class ReadTokens:
    """Of the packed tokens of r rows, s positions wide, the N' that are read.

    `packing` is theirs alone, at most s' in a row, `places` where they are among all packed tokens, `positions`
    `[r, s']` where in their rows; `back` `[r s]` which of them a position of a row is: the first, where it is not read.
    """

    packing: TokenPacking
    places: Places
    positions: torch.Tensor
    back: torch.Tensor

    @classmethod
    def of(cls, spans: torch.Tensor, reads: torch.Tensor) -> "ReadTokens":
        """Return the tokens where `reads` `[r, s]` is true, of rows whose tokens are their first `spans` `[r]`; both
        are on the host."""
        inside = torch.arange(reads.shape[1])[None] < spans[:, None]
        among = reads[inside].nonzero().T
        counts = reads.sum(dim=1)
        most = int(counts.max())
        order = (~reads).to(torch.uint8).argsort(dim=1, stable=True)
        flat = reads.flatten()
        back = (flat.cumsum(0) - 1).masked_fill(~flat, 0)
        return cls(
            TokenPacking(counts, most), Places(torch.zeros(1, 1, dtype=torch.long), among), order[:, :most], back
        )

    def mask(self, whole: torch.Tensor) -> torch.Tensor:
        """Return the mask `[r, 1, g s', t]` of the read positions, of `[r, 1, g s, t]` of all."""
        width = len(self.back) // len(self.positions)
        by_head = whole.unflatten(2, (-1, width))
        index = self.positions.to(whole.device)[:, None, None, :, None].expand(*by_head.shape[:3], -1, whole.shape[3])
        read: torch.Tensor = by_head.gather(3, index).flatten(2, 3)
        return read

    def unpacked(self, values: torch.Tensor) -> torch.Tensor:
        """Return `[r, s, h]` of `[1, N', h]`; what is not read repeats the first."""
        rows: torch.Tensor = values[0].index_select(0, self.back.to(values.device))
        unpacked: torch.Tensor = rows.unflatten(0, (len(self.positions), -1))
        return unpacked
