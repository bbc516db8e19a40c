"""Sites: one weight matrix that edits may change, always seen as `[d_out, d_in]`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters.places import DOWN, Place, place_of, split_place
from sphere_core.models.family import Family

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Site", "find_site"]


@dataclass(frozen=True)
class Site:
    """One edited weight: its layer, its module and how the module stores it.

    `experts` counts the experts of a mixture, which are one site: its weight is [W_1 ... W_E], its input a gated key
    (`experts.py`), and d_in is E times the width of one. `transposed` is decided once, by module type: `nn.Linear`
    stores `[d_out, d_in]`, GPT-2's `Conv1D` stores `[d_in, d_out]`. Nothing else in the project looks at shapes or
    names to guess. `module` says which of the layer's matrices it is, by the name that the family has for it.
    """

    layer: int
    module_path: str
    d_out: int
    d_in: int
    transposed: bool
    module: str = DOWN
    experts: int = 0

    @property
    def name(self) -> str:
        """The parameter's own name in the model's state dict."""
        return f"{self.module_path}.{'down_proj' if self.experts else 'weight'}"

    @property
    def place(self) -> Place:
        """Layer and module."""
        return place_of(self.layer, self.module)

    @property
    def label(self) -> str:
        """The place as a text: what a state calls its parts for this site."""
        return str(self.place)

    def canonical(self, stored: "torch.Tensor") -> "torch.Tensor":
        """Return a weight in stored orientation as `[d_out, d_in]`: a view, but of experts `[E, d_out, f]` a copy."""
        if self.experts:
            return stored.transpose(0, 1).flatten(1)
        return stored.T if self.transposed else stored

    def stored(self, canonical: "torch.Tensor") -> "torch.Tensor":
        """View a `[d_out, d_in]` weight in the module's own orientation."""
        if self.experts:
            blocks: torch.Tensor = canonical.unflatten(1, (self.experts, -1)).transpose(0, 1)
            return blocks
        return canonical.T if self.transposed else canonical


def find_site(network: "nn.Module", family: Family, place: Place) -> Site:
    """Return the site at a place.

    Raises InputError for a layer out of range, a module that the family does not have, or one of unknown type.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    expert_sizes = load_object("sphere_core.models.experts:expert_sizes")

    layer, name = split_place(place)
    count = len(network.get_submodule(family.layers))  # type: ignore[arg-type]
    if not 0 <= layer < count:
        raise InputError(
            f"layer {layer} is out of range",
            where="hyperparameter 'layers'",
            remedy=f"the model has {count} layers: 0 to {count - 1}",
        )
    if name not in family.site_modules:
        raise InputError(
            f"a layer of the family '{family.name}' has no site '{name}'",
            where="hyperparameter 'sites'",
            remedy=f"its sites: {', '.join(family.site_modules)}",
        )
    path = family.site_path(layer, name)
    module = _module(network, path)
    if family.router is not None:
        sizes = expert_sizes(module)
        if sizes is None:
            raise InputError(
                f"layer {layer} has no experts in the form of the family '{family.name}': {path}",
                where="model",
                remedy="mixtures with dense layers, biases or experts held apart cannot be edited",
            )
        count, d_out, width = sizes
        return Site(layer, path, d_out, count * width, transposed=False, module=name, experts=count)
    if isinstance(module, nn.Linear):
        d_out, d_in = module.weight.shape
        return Site(layer, path, d_out, d_in, transposed=False, module=name)
    if isinstance(module, Conv1D):
        d_in, d_out = module.weight.shape
        return Site(layer, path, d_out, d_in, transposed=True, module=name)
    raise InputError(
        f"{path} is a {type(module).__name__}: its orientation is unknown",
        remedy="sites must be nn.Linear or transformers' Conv1D; quantised modules are not editable",
    )


def _module(network: "nn.Module", path: str) -> "nn.Module | None":
    """Return a module by its path; None if there is none, as in a dense layer of a mixture."""
    try:
        return network.get_submodule(path)
    except AttributeError:
        return None
