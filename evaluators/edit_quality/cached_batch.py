"""Rows that are continued token by token with a key-value cache, and that leave it when they have stopped."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from sphere_core.models import EditableModel
from sphere_core.models.layer_calls import cache_argument

__all__ = ["CachedBatch"]


class CachedBatch:
    """Rows of a batch with their cache: the logits after each, the token that each takes next, and rows that leave.

    Only the last position's logits are computed, where the network can leave out the others.
    """

    def __init__(self, model: EditableModel, ids: torch.Tensor, mask: torch.Tensor) -> None:
        self._network = model.network
        self._ids, self._mask = ids, mask
        self._positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        taken = inspect.signature(model.network.forward).parameters
        self._takes_positions = "position_ids" in taken
        self._last_alone = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        self._cache_name = cache_argument(model.network)
        self._cache: Any = None

    def logits(self) -> torch.Tensor:
        """Read the tokens that are new and return fp32 logits `[m, V]` after the last of each row."""
        where = {"position_ids": self._positions} if self._takes_positions else {}
        output = self._network(
            input_ids=self._ids,
            attention_mask=self._mask,
            use_cache=True,
            return_dict=True,
            **{self._cache_name: self._cache},
            **where,
            **self._last_alone,
        )
        self._cache = output[self._cache_name]
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def append(self, tokens: torch.Tensor) -> None:
        """Let each row take a token `[m]`."""
        self._ids = tokens[:, None].to(self._ids.device)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self._positions = self._positions[:, -1:] + 1

    def keep(self, places: Sequence[int]) -> bool:
        """Keep some of the rows; return whether the cache is of a kind that can."""
        select = getattr(self._cache, "batch_select_indices", None)
        if select is None:
            return False
        kept = torch.tensor(places, device=self._ids.device)
        select(kept)
        self._ids, self._mask, self._positions = self._ids[kept], self._mask[kept], self._positions[kept]
        return True
