"""Weights that differ from the unedited model's and are no sites: what fine-tuning after editing has changed."""

from collections.abc import Mapping

import torch
from torch import nn

from sphere_core.foundation.errors import InputError
from sphere_core.numerics.placement import same_bits

__all__ = ["Overlays"]


class Overlays:
    """Fp32 masters of parameters of a network, by name and in stored orientation.

    The network's own parameter is the master rounded to its dtype. Masters are replaced, never written to. The
    unedited parameter is copied when a name is first set.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._masters: dict[str, torch.Tensor] = {}
        self._original: dict[str, torch.Tensor] = {}

    @property
    def masters(self) -> dict[str, torch.Tensor]:
        """The fp32 masters by parameter name; do not write to them."""
        return dict(self._masters)

    def set(self, name: str, stored: torch.Tensor) -> None:
        """Replace a parameter; raises InputError for a name or a shape that the network does not have."""
        parameter = self._parameter(name)
        if stored.shape != parameter.shape:
            raise InputError(
                f"{name} is {tuple(parameter.shape)} in this model, not {tuple(stored.shape)}",
                where="tuned weights",
                remedy="use the model that was tuned",
            )
        if name not in self._original:
            self._original[name] = parameter.detach().clone()
        self._masters[name] = stored.to(device=parameter.device, dtype=torch.float32)
        with torch.no_grad():
            parameter.copy_(self._masters[name])

    def replace(self, stored: Mapping[str, torch.Tensor]) -> None:
        """Install these masters and no others."""
        for name in self._masters.keys() - stored.keys():
            self._restore(name)
        for name, tensor in stored.items():
            self.set(name, tensor)

    def original(self, name: str) -> torch.Tensor | None:
        """Return the unedited parameter of a name that has been set, or None; do not write to it."""
        return self._original.get(name)

    def take(self, name: str) -> torch.Tensor | None:
        """Forget a master, whose holder is from now on another, and return it; None if there is none."""
        return self._masters.pop(name, None)

    def changed(self) -> dict[str, torch.Tensor]:
        """Return the network's parameters that differ from the unedited ones."""
        live = {name: self._parameter(name).detach() for name in self._masters}
        return {name: tensor for name, tensor in live.items() if not torch.equal(tensor, self._original[name])}

    def holds(self, masters: Mapping[str, torch.Tensor]) -> bool:
        """Return whether the masters are still these, and the network's parameters are their values."""
        return all(
            self._masters[name] is masters.get(name)
            and same_bits(self._parameter(name), self._masters[name].to(self._parameter(name).dtype))
            for name in self._masters
        )

    def _restore(self, name: str) -> None:
        del self._masters[name]
        with torch.no_grad():
            self._parameter(name).copy_(self._original[name])

    def _parameter(self, name: str) -> nn.Parameter:
        try:
            return self._network.get_parameter(name)
        except AttributeError as error:
            raise InputError(
                f"the model has no parameter that is called {name}",
                where="tuned weights",
                remedy="use the model that was tuned",
            ) from error
