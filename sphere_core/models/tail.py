"""The decoder from one layer on: only the layers after the edited one, only the positions from the subject's last
token.

Nothing before the edited layer's output depends on the vector being optimised, and attention is causal: at later layers
the positions before the subject's last token are constants too. Their keys and values are recorded once; what is run
again and again is the rest. Exact: the layers are the model's own, called with their own arguments.

Symbols: m rows, T tokens, S tokens from a row's start on, h width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from sphere_core.models.calls import CACHE_NAMES, call_layer, gather_positions, hidden_states, recorder
from sphere_core.models.editable import EditableModel

__all__ = ["Tail", "record_tail"]


class _PrefixCache:
    """Prepends the recorded keys and values of the constant positions; keeps nothing of what passes through."""

    def __init__(self, prefixes: Mapping[int, tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._prefixes = prefixes

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        before_keys, before_values = self._prefixes[layer_idx]
        return (
            torch.cat([before_keys.to(keys.device), keys], dim=2),
            torch.cat([before_values.to(values.device), values], dim=2),
        )


@dataclass(frozen=True)
class Tail:
    """Recorded calls of the layers after `layer`.

    `hidden` `[m, S, h]` is that layer's output from each row's start on; `mask` `[m, 1, S, P + S]` is additive.
    `arguments` holds, for each later layer, the tensors that go with its rows and what else it is called with.
    """

    hidden: torch.Tensor
    mask: torch.Tensor
    layers: tuple[nn.Module, ...]
    prefixes: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
    arguments: tuple[Mapping[str, Any], ...]

    def select(self, rows: torch.Tensor) -> "Tail":
        """Keep only some rows (indices `[m']`)."""

        def pick(value: object) -> Any:
            if isinstance(value, torch.Tensor):
                return value[rows.to(value.device)]
            if isinstance(value, tuple):
                return tuple(pick(item) for item in value)
            return value

        return replace(
            self,
            hidden=pick(self.hidden),
            mask=pick(self.mask),
            prefixes={layer: pick(pair) for layer, pair in self.prefixes.items()},
            arguments=tuple({name: pick(value) for name, value in call.items()} for call in self.arguments),
        )

    def run(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map the layer's output `[m, S, h]` to the last layer's output, before the final norm."""
        cache = _PrefixCache(self.prefixes)
        for layer, arguments in zip(self.layers, self.arguments, strict=True):
            call = {**arguments, "attention_mask": self.mask.to(hidden)}
            call = {name: cache if name in CACHE_NAMES else value for name, value in call.items()}
            hidden = call_layer(layer, hidden, call)
        return hidden


def record_tail(model: EditableModel, layer: int, ids: torch.Tensor, mask: torch.Tensor, starts: torch.Tensor) -> Tail:
    """Run the whole decoder once and record what the layers after `layer` need from `starts` `[m]` on.

    `ids` and `mask` are `[m, T]`, padded on the right. Raises RuntimeError for a layer that is called with a
    row-dependent tensor this module does not know how to cut: better than a silently wrong result.
    """
    later = list(model.layers)[layer + 1 :]
    calls: dict[int, dict[str, Any]] = {}
    outputs: list[torch.Tensor] = []
    cache = DynamicCache(config=model.network.config)
    handles = [model.layers[layer].register_forward_hook(lambda _, __, out: outputs.append(hidden_states(out)))]
    for index, module in enumerate(later):
        handles.append(module.register_forward_pre_hook(recorder(calls, index), with_kwargs=True))
    try:
        with torch.no_grad():
            model.decoder(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
    finally:
        for handle in handles:
            handle.remove()
    lengths = mask.sum(dim=1)
    span = int((lengths - starts).max())
    positions = (starts[:, None] + torch.arange(span, device=starts.device)).clamp_max(ids.shape[1] - 1)
    prefix = int(starts.max())
    prefixes = {layer + 1 + index: _prefix(cache, layer + 1 + index, prefix) for index in range(len(later))}
    return Tail(
        hidden=gather_positions(outputs[0], positions),
        mask=_causal_mask(starts, lengths, prefix, span),
        layers=tuple(later),
        prefixes=prefixes,
        arguments=tuple(_cut(calls[index], positions) for index in range(len(later))),
    )


def _prefix(cache: DynamicCache, layer: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    entry = cache.layers[layer]
    keys, values = getattr(entry, "keys", None), getattr(entry, "values", None)
    if not isinstance(keys, torch.Tensor) or not isinstance(values, torch.Tensor) or keys.shape[2] < length:
        raise RuntimeError(f"layer {layer} keeps no keys and values for {length} positions")
    return keys[:, :, :length], values[:, :, :length]


def _cut(arguments: Mapping[str, Any], positions: torch.Tensor) -> dict[str, Any]:
    """Cut one layer's recorded arguments to the positions that are run again."""
    cut: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "attention_mask" or name in CACHE_NAMES:
            cut[name] = None
        elif name == "cache_position":
            continue
        elif name == "position_ids" and isinstance(value, torch.Tensor):
            cut[name] = gather_positions(value.unsqueeze(-1), positions).squeeze(-1)
        elif name.startswith("position_embeddings") and value is not None:
            cut[name] = tuple(gather_positions(item, positions) for item in value)
        elif isinstance(value, torch.Tensor):
            raise RuntimeError(f"a decoder layer takes the tensor '{name}', which cannot be cut by position")
        else:
            cut[name] = value
    for name in ("attention_mask", "past_key_values"):
        cut.setdefault(name, None)
    return cut


def _causal_mask(starts: torch.Tensor, lengths: torch.Tensor, prefix: int, span: int) -> torch.Tensor:
    """Return the additive mask `[m, 1, S, P + S]`: all constant positions of the row, then causally its own."""
    offsets = torch.arange(span, device=starts.device)
    before = torch.arange(prefix, device=starts.device)[None, None, :] < starts[:, None, None]
    causal = offsets[None, :, None] >= offsets[None, None, :]
    inside = offsets[None, None, :] < (lengths - starts)[:, None, None]
    allowed = torch.cat([before.expand(-1, span, -1), causal & (inside | (offsets[:, None] == offsets))], dim=2)
    return (
        torch.zeros(allowed.shape)
        .masked_fill(~allowed.cpu(), torch.finfo(torch.float32).min)[:, None]
        .to(starts.device)
    )
