"""What the `build` of an editor's row receives."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sphere_core.editors.base import Editor
from sphere_core.editors.shaping import Shaping
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.moments.record import GRADIENTS_REMEDY, SecondMoments
from sphere_core.regularizers.nas import AnchorSettings
from sphere_core.solver.placement import Placement

__all__ = ["Build", "BuildInputs"]


@dataclass(frozen=True)
class BuildInputs:
    """Everything that an editor is made from; a build reads what its editor requires.

    `moments` is None for a row that needs none, `anchor` for a method without NAS. `placement` says which layers'
    solvers run on the host. A plugin's build receives the fields as five arguments, in this order.
    """

    hyperparameters: Hyperparameters
    moments: SecondMoments | None
    shaping: Shaping
    anchor: AnchorSettings | None
    placement: Placement

    def moment(self, layer: int) -> torch.Tensor:
        """Return C0 of one layer; raises InputError if there is none."""
        if self.moments is None or layer not in self.moments.by_layer:
            raise InputError(f"no second moment for layer {layer}", remedy="build or import second moments")
        return self.moments.by_layer[layer]

    def gradient_moment(self, layer: int) -> torch.Tensor:
        """Return S = E[g g^T] of one layer's output gradients; raises InputError if there is none."""
        if self.moments is None or layer not in self.moments.gradients:
            what = f"no second moment of the output gradients of layer {layer}"
            raise InputError(what, remedy=GRADIENTS_REMEDY)
        return self.moments.gradients[layer]


Build = Callable[[BuildInputs], Editor]
