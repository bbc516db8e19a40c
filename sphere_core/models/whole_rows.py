"""The decoder from one layer on over whole rows, for layers that carry a state instead of keys and values.

Linear attention sums up all earlier tokens in a state of its own, so that its constant positions cannot be put in front
of the others as keys and values can. Every later layer is called with the whole row, by its own recorded call.

Symbols: m rows, T tokens, S positions from a row's start on, h width.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn

from sphere_core.models.editable import EditableModel
from sphere_core.models.layer_calls import Call, call_layer, gather_positions, hidden_states, recorder, select_rows

__all__ = ["WholeRows", "record_whole_rows"]


@dataclass(frozen=True)
class WholeRows:
    """The layers after one, to be run over whole rows.

    `whole` `[m, T, h]` is that layer's output, `starts` `[m]` the places from which on it is changed, `span` S.
    `layers` are called with `calls`, recorded in a forward of these rows.
    """

    whole: torch.Tensor
    starts: torch.Tensor
    span: int
    layers: tuple[nn.Module, ...]
    calls: tuple[Call, ...]

    @cached_property
    def hidden(self) -> torch.Tensor:
        """The layer's output from each row's start on, `[m, S, h]`; past a row's end, its last position."""
        return gather_positions(self.whole, self._places.clamp_max(self.whole.shape[1] - 1))

    @property
    def _places(self) -> torch.Tensor:
        return self.starts[:, None] + torch.arange(self.span, device=self.starts.device)

    def select(self, rows: torch.Tensor) -> "WholeRows":
        """Keep only some rows (indices `[m']`, ascending)."""
        total = len(self.whole)
        calls = tuple(select_rows(call, rows, total) for call in self.calls)
        here = rows.to(self.whole.device)
        return replace(self, whole=self.whole[here], starts=self.starts[here], calls=calls)

    def run(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map the layer's output `[m, S, h]` to the last layer's output, before the final norm."""
        length = self.whole.shape[1]
        # Room behind the row for positions past its end, which are cut off again.
        room = nn.functional.pad(self.whole, (0, 0, 0, self.span))
        places = self._places[:, :, None].expand_as(hidden)
        state = room.scatter(1, places, hidden.to(room.device))[:, :length]
        for layer, call in zip(self.layers, self.calls, strict=True):
            state = call_layer(layer, state, call)
        return gather_positions(state, self._places.clamp_max(length - 1))


def record_whole_rows(
    model: EditableModel, layer: int, ids: torch.Tensor, mask: torch.Tensor, starts: torch.Tensor
) -> WholeRows:
    """Run the whole decoder once and record what the layers after `layer` are called with.

    `ids` and `mask` are `[m, T]`, padded on the right; `starts` `[m]` are on the host or the device.
    """
    later = list(model.layers)[layer + 1 :]
    calls: dict[int, dict[str, object]] = {}
    outputs: list[torch.Tensor] = []
    handles = [model.layers[layer].register_forward_hook(lambda _, __, out: outputs.append(hidden_states(out)))]
    for index, module in enumerate(later):
        handles.append(module.register_forward_pre_hook(recorder(calls, index), with_kwargs=True))
    try:
        with torch.no_grad():
            model.decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    device = outputs[0].device
    begins = starts.to(device)
    return WholeRows(
        whole=outputs[0],
        starts=begins,
        span=int((mask.sum(dim=1).to(device) - begins).max()),
        layers=tuple(later),
        calls=tuple(calls[index] for index in range(len(later))),
    )
