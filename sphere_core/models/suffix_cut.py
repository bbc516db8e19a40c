"""Recorded calls of decoder layers, cut to some rows and to the positions that are run again.

Symbols: r rows of a group, T tokens, p constant positions before a row's start (padded), s positions from it on,
g query heads per key head where queries are folded, else 1.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from sphere_core.models.last_layer import ReadTokens, call_layer_at, with_cache
from sphere_core.models.layer_calls import CACHE_NAMES, call_layer, gather_positions
from sphere_core.models.token_packing import TokenPacking

__all__ = ["Group", "Recording", "positions_from"]


class _PrefixCache:
    """Prepends the recorded keys and values of the constant positions; keeps nothing of what passes through.

    Keys and values of packed tokens become those of rows again.
    """

    def __init__(self, prefixes: Mapping[int, tuple[torch.Tensor, torch.Tensor]], packing: TokenPacking | None) -> None:
        self._prefixes, self._packing = prefixes, packing

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        before_keys, before_values = self._prefixes[layer_idx]
        if self._packing is not None:
            keys, values = self._packing.unpacked_heads(keys), self._packing.unpacked_heads(values)
        return (
            torch.cat([before_keys.to(keys.device), keys], dim=2),
            torch.cat([before_values.to(values.device), values], dim=2),
        )


@dataclass(frozen=True)
class Group:
    """Rows of about the same span, run together: `rows` are their places in the tail, ascending.

    For each later layer: its additive mask `[r, 1, g s, p + s]`, its prefix, and `arguments`, the tensors that go with
    its rows and what else it is called with. What layers share is one tensor. With a `packing` the layers run on
    packed tokens, and `packed` are their arguments; the attention then has to know of it (`grouped_attention`).
    `reads` `[r, s]`, on the host, says at which positions the last layer's output is read, and `read` which packed
    tokens those are; None: at all.
    """

    rows: torch.Tensor
    span: int
    masks: tuple[torch.Tensor, ...]
    prefixes: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
    arguments: tuple[Mapping[str, Any], ...]
    packing: TokenPacking | None = None
    packed: tuple[Mapping[str, Any], ...] = ()
    reads: torch.Tensor | None = None
    read: ReadTokens | None = None

    def with_packing(self, spans: torch.Tensor) -> "Group":
        """Return the group with its tokens packed; `spans` `[r]`, on the host, are those of its rows."""
        packing = TokenPacking(spans, self.span)
        known: dict[int, torch.Tensor] = {}
        return replace(
            self,
            packing=packing,
            packed=tuple(packing.packed_call(call, known) for call in self.arguments),
            read=None if self.reads is None else ReadTokens.of(spans, self.reads),
        )

    def select(self, kept: torch.Tensor, places: torch.Tensor) -> "Group":
        """Keep some of the rows (indices `[r']`), which then have other places `[r']` in the tail."""
        picked: dict[int, torch.Tensor] = {}

        def pick(value: object) -> Any:
            if isinstance(value, torch.Tensor):
                if id(value) not in picked:
                    picked[id(value)] = value[kept.to(value.device)]
                return picked[id(value)]
            if isinstance(value, tuple):
                return tuple(pick(item) for item in value)
            return value

        group = Group(
            rows=places,
            span=self.span,
            masks=pick(self.masks),
            prefixes={layer: pick(pair) for layer, pair in self.prefixes.items()},
            arguments=tuple({name: pick(value) for name, value in call.items()} for call in self.arguments),
            reads=None if self.reads is None else self.reads[kept.cpu()],
        )
        return group if self.packing is None else group.with_packing(self.packing.spans[kept.cpu()])

    def run(
        self,
        layers: tuple[nn.Module, ...],
        hidden: torch.Tensor,
        attends: Callable[[TokenPacking | None], AbstractContextManager[None]],
    ) -> torch.Tensor:
        """Map the hidden states of this group's rows, `[r, s, h]`, through the layers; inside `attends` their attention
        knows the packing it is given."""
        cache = _PrefixCache(self.prefixes, self.packing)
        hidden = hidden if self.packing is None else self.packing.packed(hidden)
        calls = self.arguments if self.packing is None else self.packed
        whole = len(layers) if self.read is None else len(layers) - 1
        with attends(self.packing):
            for layer, mask, arguments in zip(layers[:whole], self.masks, calls, strict=False):
                hidden = call_layer(layer, hidden, with_cache({**arguments, "attention_mask": mask}, cache))
        if self.read is not None and layers:
            with attends(self.read.packing):
                mask = self.read.mask(self.masks[-1])
                hidden = call_layer_at(layers[-1], hidden, calls[-1], self.read.places, mask, cache)
            return self.read.unpacked(hidden)
        return hidden if self.packing is None else self.packing.unpacked(hidden)


@dataclass(frozen=True)
class Recording:
    """What one forward of ids `[m, T]` left: the calls of the layers from `first` on, and their keys and values
    `[m, K, t, w]`, of t <= T positions.

    `rows` and `length` are m and T. Masks are made in `dtype`, repeated for `folds` query heads per key head.
    """

    calls: list[dict[str, Any]]
    kept: list[tuple[torch.Tensor, torch.Tensor]]
    first: int
    rows: int
    length: int
    folds: int
    dtype: torch.dtype

    def group(
        self,
        rows: torch.Tensor,
        starts: torch.Tensor,
        spans: torch.Tensor,
        *,
        packs: bool = False,
        reads: torch.Tensor | None = None,
    ) -> Group:
        """Return the group of some rows (indices `[r]`); all are on the host, starts and spans `[m]`, reads `[m, S]`.

        `packs`: with its tokens packed, if any of its positions is padding.
        """
        starts, spans = starts[rows], spans[rows]
        prefix = int(starts.max())
        prefixes = {self.first + place: self._prefix(self.first + place, rows, prefix) for place in self._places}
        cut = _Cut(self, rows, starts, spans, positions_from(starts, int(spans.max()), self.length), prefix)
        devices = [keys.device for keys, _ in prefixes.values()]
        group = Group(
            rows=rows.to(devices[0]) if devices else rows,
            span=cut.positions.shape[1],
            masks=tuple(
                cut.mask(call.get("attention_mask"), device) for call, device in zip(self.calls, devices, strict=True)
            ),
            prefixes=prefixes,
            arguments=tuple(cut.call(call) for call in self.calls),
            reads=None if reads is None else reads[rows, : cut.positions.shape[1]],
        )
        return group.with_packing(spans) if packs and int(spans.sum()) < len(spans) * group.span else group

    @property
    def _places(self) -> range:
        return range(len(self.calls))

    def _prefix(self, layer: int, rows: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.kept[layer - self.first]
        if keys.shape[2] < length:
            raise RuntimeError(f"layer {layer} keeps no keys and values for {length} positions")
        chosen = rows.to(keys.device)
        return keys[chosen, :, :length], values[chosen, :, :length]


@dataclass(frozen=True)
class _Cut:
    """Cuts to rows `[r]` and positions `[r, s]`, all on the host; what several layers take is cut once."""

    recording: Recording
    rows: torch.Tensor
    starts: torch.Tensor
    spans: torch.Tensor
    positions: torch.Tensor
    prefix: int
    done: dict[tuple[object, ...], torch.Tensor] = field(default_factory=dict)

    def call(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Cut one layer's recorded arguments."""
        cut: dict[str, Any] = {}
        for name, value in arguments.items():
            if name == "attention_mask" or name in CACHE_NAMES:
                cut[name] = None
            elif name == "cache_position":
                continue
            elif name == "position_ids" and isinstance(value, torch.Tensor):
                cut[name] = self._once(value, lambda ids: self._tensor(ids.unsqueeze(-1)).squeeze(-1))
            elif name.startswith("position_embeddings") and value is not None:
                cut[name] = tuple(self._once(item, self._tensor) for item in value)
            elif isinstance(value, torch.Tensor):
                raise RuntimeError(f"a decoder layer takes the tensor '{name}', which cannot be cut by position")
            else:
                cut[name] = value
        cut.setdefault("attention_mask", None)
        if not CACHE_NAMES & cut.keys():
            cut["past_key_values"] = None
        return cut

    def mask(self, recorded: Any, device: torch.device) -> torch.Tensor:
        """Return the additive mask `[r, 1, g s, p + s]`: constant positions of the row, then causally its own.

        `recorded` is what the model's own forward used, `[m or 1, 1, T, T]`, boolean or additive: what it hides (a
        sliding window) stays hidden. None is plain causal attention.
        """
        key = ("mask", id(recorded), device)
        if key not in self.done:
            self.done[key] = self._made_mask(recorded, device)
        return self.done[key]

    def _made_mask(self, recorded: Any, device: torch.device) -> torch.Tensor:
        starts, spans = self._on(device, "starts", self.starts), self._on(device, "spans", self.spans)
        span = self.positions.shape[1]
        offsets = torch.arange(span, device=device)
        before = torch.arange(self.prefix, device=device)[None, None, :] < starts[:, None, None]
        causal = offsets[None, :, None] >= offsets[None, None, :]
        inside = offsets[None, None, :] < spans[:, None, None]
        before, own = before.expand(-1, span, -1), causal & inside
        if recorded is not None:
            positions = self._on(device, "positions", self.positions)
            visible = self._visible(recorded, positions)
            before = before & visible[:, :, : self.prefix]
            own = own & visible.gather(2, positions[:, None].expand_as(own))
        # A position always sees itself: what is padding must not divide by zero.
        allowed = torch.cat([before, own | (causal & (offsets[:, None] == offsets))], dim=2)
        hidden = torch.finfo(torch.float32).min
        mask = torch.zeros(allowed.shape, device=device).masked_fill(~allowed, hidden)[:, None]
        return mask.to(self.recording.dtype).repeat(1, 1, self.recording.folds, 1)

    def _visible(self, recorded: Any, positions: torch.Tensor) -> torch.Tensor:
        """Return what positions `[r, s]` see of all positions, `[r, s, T]`."""
        if not isinstance(recorded, torch.Tensor) or recorded.ndim != 4 or recorded.shape[1] != 1:
            raise RuntimeError("a decoder layer takes an attention mask that is not [rows, 1, tokens, tokens]")
        mask = recorded[:, 0].to(positions.device)
        mask = mask if mask.dtype is torch.bool else mask == 0
        rows = self._on(positions.device, "rows", self.rows)
        chosen = mask[rows] if mask.shape[0] > 1 else mask.expand(len(rows), -1, -1)
        return chosen.gather(1, positions[:, :, None].expand(-1, -1, mask.shape[2]))

    def _tensor(self, values: torch.Tensor) -> torch.Tensor:
        # What has a single row, or none of its own, goes with every row.
        own = values.shape[0] == self.recording.rows
        chosen = values[self._on(values.device, "rows", self.rows)] if own else values
        return gather_positions(chosen, self._on(values.device, "positions", self.positions))

    def _once(self, value: torch.Tensor, cut: Any) -> torch.Tensor:
        key = ("cut", id(value))
        if key not in self.done:
            self.done[key] = cut(value)
        return self.done[key]

    def _on(self, device: torch.device, name: str, value: torch.Tensor) -> torch.Tensor:
        """Return one of the four index tensors on a device, moved once."""
        key = (name, device)
        if key not in self.done:
            self.done[key] = value.to(device)
        return self.done[key]


def positions_from(starts: torch.Tensor, span: int, length: int) -> torch.Tensor:
    """Return the positions `[m, S]` that are run again, those past the end moved to it."""
    return (starts[:, None] + torch.arange(span, device=starts.device)).clamp_max(length - 1)
