"""Reading activations: inputs of modules at chosen positions, with the forward stopped when the last is seen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

__all__ = ["capture_inputs", "capture_outputs"]


class _Enough(Exception):
    """Raised inside a forward when everything asked for has been seen."""


def capture_inputs(
    modules: Mapping[str, nn.Module], run: Callable[[], object], *, stop: bool = True
) -> dict[str, torch.Tensor]:
    """Run a forward and return the first positional input of each module.

    The forward stops as soon as all have been seen, unless `stop` is off. Raises RuntimeError for a module
    the forward never reached, or whose input is not a tensor.
    """
    return _capture(modules, run, stop, lambda args, _: args[0] if args else None, before=True)


def capture_outputs(
    modules: Mapping[str, nn.Module], run: Callable[[], object], *, stop: bool = True
) -> dict[str, torch.Tensor]:
    """Run a forward and return the output of each module; of a tuple, its first element.

    Decoder layers return a tensor or a tuple, depending on the release of transformers; both are the hidden
    states.
    """

    def first(_: tuple[Any, ...], output: object) -> object:
        return output[0] if isinstance(output, tuple) else output

    return _capture(modules, run, stop, first, before=False)


def _capture(
    modules: Mapping[str, nn.Module],
    run: Callable[[], object],
    stop: bool,
    pick: Callable[[tuple[Any, ...], object], object],
    *,
    before: bool,
) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}

    def observe(name: str, args: tuple[Any, ...], output: object) -> None:
        value = pick(args, output)
        if not isinstance(value, torch.Tensor) or value.ndim != 3:
            raise RuntimeError(f"{name}: expected hidden states [rows, tokens, width], got {type(value).__name__}")
        seen[name] = value
        if stop and len(seen) == len(modules):
            raise _Enough

    handles = []
    for name, module in modules.items():
        if before:
            handles.append(module.register_forward_pre_hook(lambda _, args, n=name: observe(n, args, None)))
        else:
            handles.append(module.register_forward_hook(lambda _, args, out, n=name: observe(n, args, out)))
    with _removing(handles), suppress(_Enough):
        run()
    missing = sorted(set(modules) - set(seen))
    if missing:
        raise RuntimeError(f"the forward never reached {', '.join(missing)}")
    return seen


@contextmanager
def _removing(handles: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
