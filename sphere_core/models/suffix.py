"""The decoder from one layer on: only the layers after the edited one, only the positions from the subject's last
token.

Nothing before the edited layer's output depends on the vector being optimised, and attention is causal: at later layers
the positions before the subject's last token are constants too. Their keys and values are recorded once; what is run
again and again is the rest. Exact: the layers are the model's own, called with their own arguments.

Symbols: m rows, T tokens, S tokens from a row's start on, h width.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedConfig

from sphere_core.models.editable import EditableModel
from sphere_core.models.family import attends_everywhere
from sphere_core.models.grouped_attention import attends_by_name, folding_attention, query_groups
from sphere_core.models.layer_calls import cache_argument, gather_positions, hidden_states, recorder
from sphere_core.models.prefix_trees import TREE_SHARE, TreePlaces, prefix_trees, reads_trees, tree_call
from sphere_core.models.suffix_cut import Group, Recording, positions_from
from sphere_core.models.token_packing import TokenPacking
from sphere_core.models.whole_rows import WholeRows, record_whole_rows

__all__ = ["Tail", "TailLayout", "record_tail"]

_FEW_ROWS = 16


@dataclass(frozen=True)
class TailLayout:
    """How rows are run: with tokens packed (`token_packing`) in one group, or where the model's attention cannot be
    packed in at most `groups` groups of similar span; with queries folded (`grouped_attention`) or not. `shares`: what
    rows begin with in common is recorded once (`prefix_trees`).

    Padding costs products, a group the layers' overhead once more. On an accelerator the number of operations counts:
    there all rows are one group, and rows are recorded as they are.
    """

    groups: int
    folds: bool
    packs: bool = False
    shares: bool = False

    @classmethod
    def of(cls, device: torch.device) -> "TailLayout":
        """Return the layout for a device."""
        return cls(4, folds=True, packs=True) if device.type == "cpu" else cls(1, folds=True, packs=True)


@dataclass(frozen=True)
class Tail:
    """Recorded calls of the layers after `layer`.

    `hidden` `[m, S, h]` is that layer's output from each row's start on. `folds` is the config whose attention folds
    its queries or takes packed ones, where that is done.
    """

    hidden: torch.Tensor
    layers: tuple[nn.Module, ...]
    groups: tuple[Group, ...]
    folds: PreTrainedConfig | None = None

    def select(self, rows: torch.Tensor) -> "Tail":
        """Keep only some rows (indices `[m']`, ascending)."""
        places = torch.full((len(self.hidden),), -1, device=rows.device)
        places[rows] = torch.arange(len(rows), device=rows.device)
        groups = []
        for group in self.groups:
            moved = places[group.rows.to(places.device)]
            kept = (moved >= 0).nonzero().squeeze(1)
            if len(kept):
                groups.append(group.select(kept, moved[kept]))
        return replace(self, hidden=self.hidden[rows.to(self.hidden.device)], groups=tuple(groups))

    def run(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map the layer's output `[m, S, h]` to the last layer's output, before the final norm; zero in the padding of
        a group. What is not read holds other values."""
        if len(self.groups) == 1:
            return self._run(self.groups[0], hidden)
        outputs = [self._run(group, hidden[group.rows.to(hidden.device)]) for group in self.groups]
        order = torch.cat([group.rows for group in self.groups]).argsort()
        return torch.cat(outputs)[order.to(hidden.device)]

    def _run(self, group: Group, hidden: torch.Tensor) -> torch.Tensor:
        return _padded(group.run(self.layers, hidden[:, : group.span], self._attending), hidden.shape[1])

    def _attending(self, packing: TokenPacking | None) -> AbstractContextManager[None]:
        return nullcontext() if self.folds is None else folding_attention(self.folds, packing)


def record_tail(
    model: EditableModel,
    layer: int,
    ids: torch.Tensor,
    mask: torch.Tensor,
    starts: torch.Tensor,
    *,
    layout: TailLayout | None = None,
    reads: torch.Tensor | None = None,
) -> Tail | WholeRows:
    """Run the whole decoder once and record what the layers after `layer` need from `starts` `[m]` on.

    `ids` and `mask` are `[m, T]`, padded on the right. `layout` follows from the device where it is left out; one that
    shares is for a forward that no hook of the caller's watches, since it reads trees in place of rows. Rows of a model
    with layers that carry a state are run whole, whatever the layout. `reads` `[m, S]`, on the host, marks where the
    last layer's output will be read, at least once in every row; where tokens are packed no other is given (None: all
    are read). Raises RuntimeError for a layer that is called with a row-dependent tensor this module does not know how
    to cut: better than a silently wrong result.
    """
    if not attends_everywhere(model.network.config.get_text_config()):
        return record_whole_rows(model, layer, ids, mask, starts)
    layout = layout or TailLayout.of(ids.device)
    shared = _shared(model, ids, mask) if layout.shares else None
    recorded = _record(model, layer, {"input_ids": ids, "attention_mask": mask} if shared is None else shared)
    if recorded is None:
        # Zero times infinity is not zero: in a tree one row could spoil another in spite of the mask.
        return record_tail(model, layer, ids, mask, starts, layout=replace(layout, shares=False), reads=reads)
    hidden, calls, kept = recorded
    if isinstance(shared, TreePlaces):
        known: dict[int, Any] = {}
        before = int(starts.max())
        hidden, calls = shared.by_row(hidden), [shared.call_by_row(call, known) for call in calls]
        kept = [(shared.heads_by_row(keys, before), shared.heads_by_row(values, before)) for keys, values in kept]
    # Where rows begin and end is settled on the host: nothing below waits for the device.
    begins = starts.cpu()
    spans = mask.sum(dim=1).cpu() - begins
    folds = query_groups(model) if layout.folds else 1
    packs = layout.packs and attends_by_name(model)
    recording = Recording(
        calls=calls,
        kept=kept,
        first=layer + 1,
        rows=ids.shape[0],
        length=ids.shape[1],
        folds=folds,
        dtype=hidden.dtype,
    )
    groups = _by_span(spans, 1 if packs else layout.groups)
    return Tail(
        hidden=gather_positions(hidden, positions_from(begins, int(spans.max()), ids.shape[1])),
        layers=tuple(list(model.layers)[layer + 1 :]),
        groups=tuple(recording.group(rows, begins, spans, packs=packs, reads=reads) for rows in groups),
        folds=model.network.config.get_text_config() if folds > 1 or packs else None,
    )


# What a forward left of the layers after the edited one: its output, their arguments, their keys and values.
_Recorded = tuple[torch.Tensor, list[dict[str, Any]], list[tuple[torch.Tensor, torch.Tensor]]]


def _record(model: EditableModel, layer: int, read: dict[str, torch.Tensor] | TreePlaces) -> _Recorded | None:
    """Run the decoder once over padded rows (a call), or over trees; None if what trees gave is not finite."""
    call = tree_call(model, read.trees) if isinstance(read, TreePlaces) else read
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
            given = {cache_argument(model.decoder): cache}
            final = model.decoder(**call, **given, use_cache=True, return_dict=True).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(read, TreePlaces) and not bool(torch.isfinite(final).all()):
        return None
    return outputs[0], [calls[index] for index in range(len(later))], _kept(cache, layer + 1)


def _shared(model: EditableModel, ids: torch.Tensor, mask: torch.Tensor) -> TreePlaces | None:
    """Return where rows are in prefix trees; None if these save less than a third of the tokens or the model does
    not read them."""
    if model.attachment is not None or not reads_trees(model, ids.shape[1]):
        return None
    lengths = mask.sum(dim=1).tolist()
    rows = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]
    trees = prefix_trees(list(dict.fromkeys(rows)))
    if sum(len(tree.ids) for tree in trees) > TREE_SHARE * ids.numel():
        return None
    return TreePlaces.of(trees, rows, ids.device)


def _kept(cache: DynamicCache, first: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the keys and values of the layers from `first` on."""
    found = []
    for layer, entry in enumerate(cache.layers[first:], start=first):
        keys, values = getattr(entry, "keys", None), getattr(entry, "values", None)
        if not isinstance(keys, torch.Tensor) or not isinstance(values, torch.Tensor):
            raise RuntimeError(f"layer {layer} keeps no keys and values")
        found.append((keys, values))
    return found


def _by_span(spans: torch.Tensor, most: int) -> list[torch.Tensor]:
    """Return the rows in groups of similar span, at most `most` and none of few rows, in order of span."""
    count = len(spans)
    groups = min(most, -(-count // _FEW_ROWS))
    ordered = spans.sort().values
    limits = [int(ordered[(count * (index + 1) - 1) // groups]) for index in range(groups)]
    lower = [-1, *limits]
    found = [((spans > low) & (spans <= high)).nonzero().squeeze(1) for low, high in zip(lower, limits, strict=False)]
    return [rows for rows in found if len(rows)]


def _padded(outputs: torch.Tensor, span: int) -> torch.Tensor:
    return outputs if outputs.shape[1] == span else nn.functional.pad(outputs, (0, 0, 0, span - outputs.shape[1]))
