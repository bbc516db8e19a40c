"""What a decoder layer is called with: recorded once, so that the layer can be called again with other hidden states.

Every family hands its layers other arguments (masks, rotary tables, caches), and a new release may add some.
Replaying the model's own call needs to know none of them, except where positions are cut.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from sphere_core.models.editable import EditableModel

__all__ = [
    "CACHE_NAMES",
    "Call",
    "cache_argument",
    "call_layer",
    "gather_positions",
    "hidden_states",
    "recorded_calls",
    "recorder",
    "select_rows",
]

# What the key-value cache of a layer or a model is called; `cache` from transformers 5.24 on.
CACHE_NAMES = frozenset({"cache", "past_key_values", "past_key_value", "layer_past"})

# Arguments of one layer by name, the hidden states left out.
Call = Mapping[str, Any]


def cache_argument(module: nn.Module) -> str:
    """Return the name under which a module takes its key-value cache, and its output holds it."""
    taken = inspect.signature(module.forward).parameters
    return next((name for name in taken if name in CACHE_NAMES), "past_key_values")


def hidden_states(output: Any) -> torch.Tensor:
    """Return the hidden states of a layer's output: a tensor, or the first element of a tuple in older releases."""
    value: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return value


def recorder(calls: dict[int, dict[str, Any]], index: int) -> Callable[[nn.Module, Any, Any], None]:
    """Return a forward pre-hook (with kwargs) that notes a layer's arguments under `index`."""

    def record(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls[index] = _bind(module, args, kwargs)

    return record


def call_layer(layer: nn.Module, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    """Call a layer with recorded arguments and return its hidden states `[m, T, h]`."""
    return hidden_states(layer(hidden, **call))


def gather_positions(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Pick `positions` `[m, S]` along dimension 1 of `[m or 1, T, w]`."""
    rows, span = positions.shape
    expanded = values.expand(rows, -1, -1)
    index = positions.to(values.device)[:, :, None].expand(rows, span, values.shape[-1])
    return expanded.gather(1, index)


def recorded_calls(
    model: EditableModel, layers: Sequence[int], given: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[int, Call]]:
    """Return the hidden states that enter the first of `layers` (consecutive) and the calls of all of them.

    One forward of what is `given` to the decoder, which does no work in `layers` and stops after them: recorders
    replace them and pass the hidden states through.
    """
    calls: dict[int, dict[str, Any]] = {}
    entering: list[torch.Tensor] = []
    with _recorders(model, layers, calls, entering), torch.no_grad(), suppress(_Recorded):
        model.decoder(**given, use_cache=False)
    return entering[0], {layer: calls[layer] for layer in layers}


def select_rows(call: Call, rows: torch.Tensor, total: int) -> Call:
    """Keep some rows (indices `[m']`) of every tensor of a call that has one entry for each of `total` rows."""

    def pick(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return value[rows.to(value.device)] if value.ndim and value.shape[0] == total and total > 1 else value
        if isinstance(value, tuple):
            return tuple(pick(item) for item in value)
        return value

    return {name: pick(value) for name, value in call.items()}


class _Recorded(Exception):
    """Raised by the last recorder: the layers after it are not required."""


class _Recorder(nn.Module):
    """Takes a decoder layer's place, with its attributes, and records instead of computing."""

    def __init__(
        self, layer: nn.Module, index: int, last: int, calls: dict[int, dict[str, Any]], entering: list[torch.Tensor]
    ) -> None:
        super().__init__()
        self._behind = [layer]  # in a list, so that it is not registered as a child
        self._index, self._last = index, last
        self._calls, self._entering = calls, entering

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_behind"][0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self._entering:
            self._entering.append(args[0] if args else kwargs["hidden_states"])
        self._calls[self._index] = _bind(self._behind[0], args, kwargs)
        if self._index == self._last:
            raise _Recorded
        return self._entering[0]


@contextmanager
def _recorders(
    model: EditableModel, layers: Sequence[int], calls: dict[int, dict[str, Any]], entering: list[torch.Tensor]
) -> Iterator[None]:
    modules = model.layers
    originals = {index: modules[index] for index in layers}
    try:
        for index, layer in originals.items():
            modules[index] = _Recorder(layer, index, max(layers), calls, entering)
        yield
    finally:
        for index, layer in originals.items():
            modules[index] = layer


def _bind(module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
    named = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    named.update(named.pop("kwargs", {}))
    named.pop("hidden_states", None)
    return named
