"""The decoder from one layer on: only the layers after the edited one, only the positions from the subject's last
token.

Nothing before the edited layer's output depends on the vector being optimised, and attention is causal: at later layers
the positions before the subject's last token are constants too. Their keys and values are recorded once; what is run
again and again is the rest. Exact: the layers are the model's own, called with their own arguments.

Symbols: m rows, T tokens, S tokens from a row's start on, h width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from sphere_core.models.editable import EditableModel
from sphere_core.models.layer_calls import CACHE_NAMES, call_layer, gather_positions, hidden_states, recorder

__all__ = ["Tail", "record_tail"]

# Rows are run in at most this many groups of similar span; each costs the layers' overhead once more.
_MOST_GROUPS = 4
_FEW_ROWS = 16


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
class _Group:
    """Rows of about the same span, run together: `rows` are their places in the tail.

    `masks` `[r, 1, s, p + s]` are additive, one for each kind of layer, and `kinds` says which one each later layer
    takes; `arguments` holds, for each later layer, the tensors that go with its rows and what else it is called with.
    """

    rows: torch.Tensor
    masks: tuple[torch.Tensor, ...]
    kinds: tuple[int, ...]
    prefixes: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
    arguments: tuple[Mapping[str, Any], ...]

    def select(self, kept: torch.Tensor, places: torch.Tensor) -> "_Group":
        """Keep some of the rows (indices `[r']`), which then have other places `[r']` in the tail."""

        def pick(value: object) -> Any:
            if isinstance(value, torch.Tensor):
                return value[kept.to(value.device)]
            if isinstance(value, tuple):
                return tuple(pick(item) for item in value)
            return value

        return _Group(
            rows=places,
            masks=pick(self.masks),
            kinds=self.kinds,
            prefixes={layer: pick(pair) for layer, pair in self.prefixes.items()},
            arguments=tuple({name: pick(value) for name, value in call.items()} for call in self.arguments),
        )

    def run(self, layers: tuple[nn.Module, ...], hidden: torch.Tensor) -> torch.Tensor:
        """Map `[m, S, h]` to the outputs of this group's rows, `[r, S, h]`, zero after the group's span."""
        total, span = hidden.shape[1], self.masks[0].shape[2]
        hidden = hidden[self.rows.to(hidden.device), :span]
        cache = _PrefixCache(self.prefixes)
        for layer, kind, arguments in zip(layers, self.kinds, self.arguments, strict=True):
            call = {**arguments, "attention_mask": self.masks[kind].to(hidden)}
            call = {name: cache if name in CACHE_NAMES else value for name, value in call.items()}
            hidden = call_layer(layer, hidden, call)
        return nn.functional.pad(hidden, (0, 0, 0, total - span))


@dataclass(frozen=True)
class Tail:
    """Recorded calls of the layers after `layer`.

    `hidden` `[m, S, h]` is that layer's output from each row's start on. Short rows are run apart from long ones, so
    that padding costs little.
    """

    hidden: torch.Tensor
    layers: tuple[nn.Module, ...]
    groups: tuple[_Group, ...]

    def select(self, rows: torch.Tensor) -> "Tail":
        """Keep only some rows (indices `[m']`)."""
        places = torch.full((len(self.hidden),), -1, device=rows.device)
        places[rows] = torch.arange(len(rows), device=rows.device)
        groups = []
        for group in self.groups:
            moved = places[group.rows]
            kept = (moved >= 0).nonzero().squeeze(1)
            if len(kept):
                groups.append(group.select(kept, moved[kept]))
        return Tail(self.hidden[rows.to(self.hidden.device)], self.layers, tuple(groups))

    def run(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map the layer's output `[m, S, h]` to the last layer's output, before the final norm; zero in padding."""
        outputs = [group.run(self.layers, hidden) for group in self.groups]
        order = torch.cat([group.rows for group in self.groups]).argsort()
        return torch.cat(outputs)[order.to(hidden.device)]


def record_tail(model: EditableModel, layer: int, ids: torch.Tensor, mask: torch.Tensor, starts: torch.Tensor) -> Tail:
    """Run the whole decoder once and record what the layers after `layer` need from `starts` `[m]` on.

    `ids` and `mask` are `[m, T]`, padded on the right. Raises RuntimeError for a layer that is called with a
    row-dependent tensor this module does not know how to cut: better than a silently wrong result.
    """
    later = list(model.layers)[layer + 1 :]
    calls: dict[int, dict[str, Any]] = {}
    outputs: list[torch.Tensor] = []
    # Without a config every layer keeps all positions, those with a sliding window too.
    cache = DynamicCache()
    handles = [model.layers[layer].register_forward_hook(lambda _, __, out: outputs.append(hidden_states(out)))]
    for index, module in enumerate(later):
        handles.append(module.register_forward_pre_hook(recorder(calls, index), with_kwargs=True))
    try:
        with torch.no_grad():
            model.decoder(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
    finally:
        for handle in handles:
            handle.remove()
    spans = mask.sum(dim=1) - starts
    recorded = [calls[index] for index in range(len(later))]
    return Tail(
        hidden=gather_positions(outputs[0], _positions(starts, int(spans.max()), ids.shape[1])),
        layers=tuple(later),
        groups=tuple(
            _group(rows, starts, spans, ids.shape, recorded, cache, first=layer + 1) for rows in _by_span(spans)
        ),
    )


def _by_span(spans: torch.Tensor) -> list[torch.Tensor]:
    """Return the rows in groups of similar span, at most four and none of few rows, in order of span."""
    count = len(spans)
    groups = min(_MOST_GROUPS, -(-count // _FEW_ROWS))
    ordered = spans.sort().values
    limits = [int(ordered[(count * (index + 1) - 1) // groups]) for index in range(groups)]
    lower = [-1, *limits]
    found = [((spans > low) & (spans <= high)).nonzero().squeeze(1) for low, high in zip(lower, limits, strict=False)]
    return [rows for rows in found if len(rows)]


def _group(
    rows: torch.Tensor,
    starts: torch.Tensor,
    spans: torch.Tensor,
    shape: torch.Size,
    calls: list[dict[str, Any]],
    cache: DynamicCache,
    *,
    first: int,
) -> _Group:
    total, length = shape
    span, prefix = int(spans[rows].max()), int(starts[rows].max())
    positions = _positions(starts[rows], span, length)
    seen = [call.get("attention_mask") for call in calls]
    distinct = list({id(mask): mask for mask in seen}.values())
    places = {id(mask): place for place, mask in enumerate(distinct)}
    return _Group(
        rows=rows,
        masks=tuple(_mask(mask, rows, starts[rows], spans[rows], prefix, positions) for mask in distinct),
        kinds=tuple(places[id(mask)] for mask in seen),
        prefixes={first + index: _prefix(cache, first + index, rows, prefix) for index in range(len(calls))},
        arguments=tuple(_cut(call, rows, total, positions) for call in calls),
    )


def _positions(starts: torch.Tensor, span: int, length: int) -> torch.Tensor:
    """Return the positions `[m, S]` that are run again, those past the end moved to it."""
    return (starts[:, None] + torch.arange(span, device=starts.device)).clamp_max(length - 1)


def _prefix(cache: DynamicCache, layer: int, rows: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    entry = cache.layers[layer]
    keys, values = getattr(entry, "keys", None), getattr(entry, "values", None)
    if not isinstance(keys, torch.Tensor) or not isinstance(values, torch.Tensor) or keys.shape[2] < length:
        raise RuntimeError(f"layer {layer} keeps no keys and values for {length} positions")
    chosen = rows.to(keys.device)
    return keys[chosen, :, :length], values[chosen, :, :length]


def _cut(arguments: Mapping[str, Any], rows: torch.Tensor, total: int, positions: torch.Tensor) -> dict[str, Any]:
    """Cut one layer's recorded arguments to some rows and to the positions that are run again."""

    def cut_to(values: torch.Tensor) -> torch.Tensor:
        # What has a single row, or none of its own, goes with every row.
        chosen = values[rows.to(values.device)] if values.shape[0] == total else values
        return gather_positions(chosen, positions)

    cut: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "attention_mask" or name in CACHE_NAMES:
            cut[name] = None
        elif name == "cache_position":
            continue
        elif name == "position_ids" and isinstance(value, torch.Tensor):
            cut[name] = cut_to(value.unsqueeze(-1)).squeeze(-1)
        elif name.startswith("position_embeddings") and value is not None:
            cut[name] = tuple(cut_to(item) for item in value)
        elif isinstance(value, torch.Tensor):
            raise RuntimeError(f"a decoder layer takes the tensor '{name}', which cannot be cut by position")
        else:
            cut[name] = value
    cut.setdefault("attention_mask", None)
    if not CACHE_NAMES & cut.keys():
        cut["past_key_values"] = None
    return cut


def _mask(
    recorded: Any,
    rows: torch.Tensor,
    starts: torch.Tensor,
    spans: torch.Tensor,
    prefix: int,
    positions: torch.Tensor,
) -> torch.Tensor:
    """Return the additive mask `[r, 1, s, p + s]`: constant positions of the row, then causally its own.

    `recorded` is what the model's own forward used, `[m or 1, 1, T, T]`, boolean or additive: what it hides (a sliding
    window) stays hidden. None is plain causal attention.
    """
    span = positions.shape[1]
    offsets = torch.arange(span, device=starts.device)
    before = torch.arange(prefix, device=starts.device)[None, None, :] < starts[:, None, None]
    causal = offsets[None, :, None] >= offsets[None, None, :]
    inside = offsets[None, None, :] < spans[:, None, None]
    before, own = before.expand(-1, span, -1), causal & inside
    if recorded is not None:
        visible = _visible(recorded, rows, positions)
        before, own = before & visible[:, :, :prefix], own & visible.gather(2, positions[:, None].expand_as(own))
    # A position always sees itself: what is padding must not divide by zero.
    allowed = torch.cat([before, own | (causal & (offsets[:, None] == offsets))], dim=2)
    return (
        torch.zeros(allowed.shape)
        .masked_fill(~allowed.cpu(), torch.finfo(torch.float32).min)[:, None]
        .to(starts.device)
    )


def _visible(recorded: Any, rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return what positions `[r, s]` of some rows see of all positions, `[r, s, T]`."""
    if not isinstance(recorded, torch.Tensor) or recorded.ndim != 4 or recorded.shape[1] != 1:
        raise RuntimeError("a decoder layer takes an attention mask that is not [rows, 1, tokens, tokens]")
    mask = recorded[:, 0].to(positions.device)
    mask = mask if mask.dtype is torch.bool else mask == 0
    chosen = mask[rows] if mask.shape[0] > 1 else mask.expand(len(rows), -1, -1)
    return chosen.gather(1, positions[:, :, None].expand(-1, -1, mask.shape[2]))
