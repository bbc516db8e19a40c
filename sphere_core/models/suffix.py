"""The decoder from one layer on: only the layers after the edited one, only the positions from the subject's last
token.

Nothing before the edited layer's output depends on the vector being optimised, and attention is causal: at later layers
the positions before the subject's last token are constants too. Their keys and values are recorded once; what is run
again and again is the rest. Exact: the layers are the model's own, called with their own arguments.

Symbols: m rows, T tokens, S tokens from a row's start on, h width.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedConfig

from sphere_core.models.editable import EditableModel
from sphere_core.models.grouped_attention import attends_by_name, folding_attention, query_groups
from sphere_core.models.layer_calls import gather_positions, hidden_states, recorder
from sphere_core.models.suffix_cut import Group, Recording, positions_from

__all__ = ["Tail", "TailLayout", "record_tail"]

_FEW_ROWS = 16


@dataclass(frozen=True)
class TailLayout:
    """How rows are run: in at most `groups` groups of similar span, with queries folded (`grouped_attention`) or not,
    with tokens packed (`token_packing`) or not.

    A group saves padding and costs the layers' overhead once more. On a processor padding is what counts, on an
    accelerator the number of operations and the copies of keys and values: there all rows are one group, and packing
    spares the linear layers its padding.
    """

    groups: int
    folds: bool
    packs: bool = False

    @classmethod
    def of(cls, device: torch.device) -> "TailLayout":
        """Return the layout for a device."""
        return cls(4, folds=False) if device.type == "cpu" else cls(1, folds=True, packs=True)


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
        a group."""
        if len(self.groups) == 1:
            return self._run(self.groups[0], hidden)
        outputs = [self._run(group, hidden[group.rows.to(hidden.device)]) for group in self.groups]
        order = torch.cat([group.rows for group in self.groups]).argsort()
        return torch.cat(outputs)[order.to(hidden.device)]

    def _run(self, group: Group, hidden: torch.Tensor) -> torch.Tensor:
        with folding_attention(self.folds, group.packing) if self.folds is not None else nullcontext():
            return _padded(group.run(self.layers, hidden[:, : group.span]), hidden.shape[1])


def record_tail(
    model: EditableModel,
    layer: int,
    ids: torch.Tensor,
    mask: torch.Tensor,
    starts: torch.Tensor,
    *,
    layout: TailLayout | None = None,
) -> Tail:
    """Run the whole decoder once and record what the layers after `layer` need from `starts` `[m]` on.

    `ids` and `mask` are `[m, T]`, padded on the right. `layout` follows from the device where it is left out. Raises
    RuntimeError for a layer that is called with a row-dependent tensor this module does not know how to cut: better
    than a silently wrong result.
    """
    layout = layout or TailLayout.of(ids.device)
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
    # Where rows begin and end is settled on the host: nothing below waits for the device.
    begins = starts.cpu()
    spans = mask.sum(dim=1).cpu() - begins
    folds = query_groups(model) if layout.folds else 1
    packs = layout.packs and attends_by_name(model)
    recording = Recording(
        calls=[calls[index] for index in range(len(later))],
        cache=cache,
        first=layer + 1,
        rows=ids.shape[0],
        length=ids.shape[1],
        folds=folds,
        dtype=outputs[0].dtype,
    )
    return Tail(
        hidden=gather_positions(outputs[0], positions_from(begins, int(spans.max()), ids.shape[1])),
        layers=tuple(later),
        groups=tuple(recording.group(rows, begins, spans, packs=packs) for rows in _by_span(spans, layout.groups)),
        folds=model.network.config.get_text_config() if folds > 1 or packs else None,
    )


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
