"""Which parameters of a model a fine-tuning changes, and how each is trained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sphere_core.foundation.errors import InputError
from sphere_core.models.editable import EditableModel
from sphere_core.tuning.adapters import Dora, Lora, Plain, Trained
from sphere_core.tuning.settings import TuningSettings

__all__ = ["TunedParameter", "tuned_parameters"]


@dataclass(frozen=True)
class TunedParameter:
    """One parameter: its name in the network, how the module stores it, and how it is trained."""

    name: str
    transposed: bool
    trained: Trained

    def canonical(self, stored: torch.Tensor) -> torch.Tensor:
        """View a parameter in stored orientation as `[d_out, d_in]`."""
        return stored.T if self.transposed else stored

    def stored(self, canonical: torch.Tensor) -> torch.Tensor:
        """Return a `[d_out, d_in]` weight in the module's own orientation."""
        return canonical.T if self.transposed else canonical


def tuned_parameters(
    model: EditableModel, settings: TuningSettings, edited: Sequence[int]
) -> tuple[TunedParameter, ...]:
    """Return the parameters of a fine-tuning in the network's order; `edited` are the layers that the method edits.

    Raises InputError if there are none, or for a module that no layer has.
    """
    if settings.method == "full":
        return tuple(TunedParameter(name, False, Plain()) for name in _full(model, settings, edited))
    trained = _adapter(settings)
    modules = list(_linear(model, _layers(model, settings, edited)))
    known = dict.fromkeys(path.rpartition(".")[2] for path, _ in modules)
    for wanted in settings.modules or ():
        if wanted not in known:
            raise InputError(
                f"no linear module is called '{wanted}'",
                where="afterwards, key modules",
                remedy=f"the model's layers have {', '.join(known)}",
            )
    chosen = [
        (path, module)
        for path, module in modules
        if settings.modules is None or path.rpartition(".")[2] in settings.modules
    ]
    return tuple(TunedParameter(f"{path}.weight", isinstance(module, Conv1D), trained) for path, module in chosen)


def _adapter(settings: TuningSettings) -> Trained:
    if settings.rank is None or settings.alpha is None:
        raise ValueError("an adapter has a rank and an alpha")
    lora = Lora(settings.rank, settings.alpha / settings.rank)
    return lora if settings.method == "lora" else Dora(lora)


def _layers(model: EditableModel, settings: TuningSettings, edited: Sequence[int]) -> list[int]:
    every = range(len(model.layers))
    found = {
        "all": list(every),
        "edited": [layer for layer in every if layer in edited],
        "others": [layer for layer in every if layer not in edited],
    }[settings.layers]
    if not found:
        raise InputError(
            "the method edits every layer: there are no others", where="afterwards, key layers", remedy="layers: all"
        )
    return found


def _full(model: EditableModel, settings: TuningSettings, edited: Sequence[int]) -> Iterable[str]:
    names = [name for name, _ in model.network.named_parameters()]
    if settings.layers == "all":
        return names
    heads = tuple(f"{model.family.layers}.{layer}." for layer in _layers(model, settings, edited))
    return [name for name in names if name.startswith(heads)]


def _linear(model: EditableModel, layers: Sequence[int]) -> Iterable[tuple[str, nn.Module]]:
    for layer in layers:
        path = f"{model.family.layers}.{layer}"
        for name, module in model.network.get_submodule(path).named_modules():
            if isinstance(module, nn.Linear | Conv1D):
                yield f"{path}.{name}", module
