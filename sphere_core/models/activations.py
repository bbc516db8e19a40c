"""Reading activations: inputs of modules, with the forward stopped at the last; outputs to differentiate by."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from sphere_core.models.sites import Site

__all__ = ["capture_inputs", "watched_outputs"]


class _Enough(Exception):
    """Raised inside a forward when all requested inputs have been seen."""


def capture_inputs(modules: Mapping[str, nn.Module], run: Callable[[], object]) -> dict[str, torch.Tensor]:
    """Run a forward and return the first positional input of each module, `[rows, tokens, width]`.

    The forward stops as soon as all have been seen. Raises RuntimeError for a module the forward never
    reached, or whose input is not hidden states.
    """
    seen: dict[str, torch.Tensor] = {}

    def observe(name: str, args: tuple[Any, ...]) -> None:
        value = args[0] if args else None
        if not isinstance(value, torch.Tensor) or value.ndim != 3:
            raise RuntimeError(f"{name}: expected hidden states [rows, tokens, width], got {type(value).__name__}")
        seen[name] = value
        if len(seen) == len(modules):
            raise _Enough

    with _observing(modules, observe), suppress(_Enough):
        run()
    missing = sorted(set(modules) - set(seen))
    if missing:
        raise RuntimeError(f"the forward never reached {', '.join(missing)}")
    return seen


@contextmanager
def watched_outputs(
    network: nn.Module, sites: Sequence[Site]
) -> Iterator[dict[Site, tuple[torch.Tensor, torch.Tensor]]]:
    """Have every forward inside the block note each site's input and its output, which gradients then reach.

    The first site's output is where the graph begins: nothing below it is differentiated.
    """
    seen: dict[Site, tuple[torch.Tensor, torch.Tensor]] = {}

    def observe(site: Site, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        watched = output if output.requires_grad else output.detach().requires_grad_(True)
        seen[site] = (args[0].detach(), watched)
        return watched

    handles = [
        network.get_submodule(site.module_path).register_forward_hook(
            lambda _, args, output, site=site: observe(site, args, output)
        )
        for site in sites
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _observing(modules: Mapping[str, nn.Module], observe: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: observe(name, args))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
