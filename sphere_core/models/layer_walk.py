"""One incremental pass through the edited layers: read a site's keys, write the site, continue with the new weight.

Below the first edited layer nothing changes during a batch, and keys depend on no position after the subject's last
token: prompts are cut there, and one forward serves all layers. The published loop runs the whole model again for every
layer's keys, every layer's residual, and once more for every layer's history.
"""

from collections.abc import Iterator, Sequence

import torch

from sphere_core.models.activations import capture_inputs
from sphere_core.models.editable import EditableModel
from sphere_core.models.experts import gated_inputs, routings
from sphere_core.models.layer_calls import Call, call_layer, recorded_calls, select_rows
from sphere_core.models.sites import Site

__all__ = ["Walk", "start_walk"]


class Walk:
    """Hidden states `[m, T, h]` of prompts on their way through the layers, at the entry of layer `position`."""

    def __init__(
        self,
        model: EditableModel,
        parts: list[tuple[torch.Tensor, dict[int, Call], torch.Tensor]],
        first: int,
        last: int,
    ) -> None:
        self._model = model
        self._parts = parts
        self._position = first
        self._last = last

    def inputs(self, site: Site) -> torch.Tensor:
        """Return the site's input at each prompt's last token, `[m, d_in]`; advances to the site's layer first."""
        self._go_to(site.layer)
        return torch.cat(self._at_site(site))

    def site_outputs(self, site: Site, rows: torch.Tensor) -> torch.Tensor:
        """Return the site's own output (bias included) at the last token of some prompts (indices `[r]`), `[r, d_out]`,
        as its weight is now."""
        self._go_to(site.layer)
        inputs = torch.cat(self._at_site(site))[rows]
        with torch.no_grad():
            if site.experts:
                weight = site.canonical(self._model.network.get_parameter(site.name))
                return torch.nn.functional.linear(inputs, weight)
            outputs: torch.Tensor = self._model.network.get_submodule(site.module_path)(inputs)
            return outputs

    def _at_site(self, site: Site) -> list[torch.Tensor]:
        """Return the site's inputs at the prompts' last tokens, part by part."""
        module = self._model.network.get_submodule(site.module_path)
        layer = self._model.layers[site.layer]
        picked = []
        for hidden, calls, ends in self._parts:

            def run(hidden: torch.Tensor = hidden, call: Call = calls[site.layer]) -> object:
                return call_layer(layer, hidden, call)

            with torch.no_grad():
                if site.experts:
                    (found,) = routings([module], run)
                    tokens = torch.arange(len(hidden), device=ends.device) * hidden.shape[1] + ends
                    picked.append(gated_inputs(module, found.of(tokens)))
                else:
                    picked.append(_at(capture_inputs({"site": module}, run)["site"], ends))
        return picked

    def outputs(self, rows: torch.Tensor, last: int | None = None) -> torch.Tensor:
        """Return the output of layer `last` (None: the last of the walk) at the last token of some prompts (indices
        `[r]`), `[r, h]`, as weights are now."""
        upto, picked = self._last if last is None else last, []
        for (hidden, calls, ends), here in self._rows_by_part(rows):
            picked.append(self._continued(hidden, calls, ends, here, upto))
        return torch.cat(picked)

    def replayed(self, rows: torch.Tensor, values: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return each layer's output `[r, h]` at the last token of some prompts (ascending indices `[r]`) when the
        first layer's output there is `values` `[r, h]`; call it before any site is visited."""
        picked: dict[int, list[torch.Tensor]] = {}
        start, first = 0, self._position
        for (hidden, calls, ends), here in self._rows_by_part(rows):
            given = values[start : start + len(here)]
            start += len(here)
            state, places = hidden[here], ends[here.to(ends.device)]
            for index in range(first, self._last + 1):
                with torch.no_grad():
                    state = call_layer(self._model.layers[index], state, select_rows(calls[index], here, len(hidden)))
                if index == first:
                    state = state.clone()
                    state[torch.arange(len(state), device=state.device), places.to(state.device)] = given.to(state)
                picked.setdefault(index, []).append(_at(state, places))
        return {index: torch.cat(parts) for index, parts in picked.items()}

    def _rows_by_part(
        self, rows: torch.Tensor
    ) -> Iterator[tuple[tuple[torch.Tensor, dict[int, Call], torch.Tensor], torch.Tensor]]:
        """Yield each part that holds some of the rows, with their indices inside it, on its device."""
        start = 0
        for part in self._parts:
            hidden = part[0]
            here = rows[(rows >= start) & (rows < start + len(hidden))] - start
            start += len(hidden)
            if len(here):
                yield part, here.to(hidden.device)

    def _continued(
        self, hidden: torch.Tensor, calls: dict[int, Call], ends: torch.Tensor, rows: torch.Tensor, last: int
    ) -> torch.Tensor:
        state = hidden[rows]
        with torch.no_grad():
            for index in range(self._position, last + 1):
                state = call_layer(self._model.layers[index], state, select_rows(calls[index], rows, len(hidden)))
        return _at(state, ends[rows.to(ends.device)])

    def _go_to(self, layer: int) -> None:
        """Run the layers before `layer` with the weights they have now; they are final for this batch."""
        while self._position < layer:
            module = self._model.layers[self._position]
            with torch.no_grad():
                self._parts = [
                    (call_layer(module, hidden, calls[self._position]), calls, ends)
                    for hidden, calls, ends in self._parts
                ]
            self._position += 1


def start_walk(model: EditableModel, parts: Sequence[tuple[torch.Tensor, torch.Tensor]], first: int, last: int) -> Walk:
    """Run prompts up to layer `first`; `parts` are ids and masks `[m, T]`, padded on the right."""
    walked = []
    for ids, mask in parts:
        entering, calls = recorded_calls(model, range(first, last + 1), {"input_ids": ids, "attention_mask": mask})
        walked.append((entering, calls, mask.sum(dim=1) - 1))
    return Walk(model, walked, first, last)


def _at(values: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    return values[torch.arange(len(values), device=values.device), ends.to(values.device)]
