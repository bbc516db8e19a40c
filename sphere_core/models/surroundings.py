"""What acts on a network beside its weights: hooks, replaced modules and replaced forwards.

A digest of weights says nothing of them. They are noted once, when a model is loaded, and whatever appears later and
is not an attachment's own is refused: its answers would be stored under the digest of the unedited model.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from torch import nn
from torch.nn.modules import module as torch_modules

__all__ = ["Surroundings"]

# transformers puts hooks into a network when hidden states are returned; they read and never change.
_READERS = "transformers.utils.output_capturing"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")


@dataclass(frozen=True)
class Surroundings:
    """The modules of a network by path, those with a forward of their own, and the ids of hooks by path."""

    modules: dict[str, nn.Module]
    forwards: dict[str, object]
    hooks: frozenset[int]

    @classmethod
    def of(cls, network: nn.Module) -> "Surroundings":
        """Note what acts on a network now."""
        modules = dict(network.named_modules())
        forwards = {path: vars(module)["forward"] for path, module in modules.items() if _replaced(module)}
        return cls(modules, forwards, frozenset(number for _, number in _hooks(modules)))

    def intruder(self, network: nn.Module, declared: Set[int]) -> str | None:
        """Return what acts on the network and was neither there before nor is a `declared` hook; None: nothing."""
        modules = dict(network.named_modules())
        for path, module in modules.items():
            name = path or type(module).__name__
            if path not in self.modules or self.modules[path] is not module:
                return f"the module {name} was added or replaced"
            if _replaced(module) and self.forwards.get(path) is not vars(module)["forward"]:
                return f"the forward of {name} was replaced"
        for path, number in _hooks(modules):
            if number not in self.hooks and number not in declared:
                return f"a forward hook on {path}"
        return None


def _replaced(module: nn.Module) -> bool:
    return "forward" in vars(module)


def _hooks(modules: dict[str, nn.Module]) -> Iterable[tuple[str, int]]:
    """Yield the place and the id of every hook that can change a forward; ids are unique in a process."""
    for path, module in modules.items():
        for kind in _HOOKS:
            for number, hook in getattr(module, kind).items():
                if getattr(hook, "__module__", None) != _READERS:
                    yield path or type(module).__name__, number
    for kind in _GLOBAL_HOOKS:
        yield from (("all modules", number) for number in getattr(torch_modules, kind))
