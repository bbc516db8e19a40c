"""What a regularizer is."""

from typing import Protocol

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import Update

__all__ = ["ReadOut", "Regularizer", "Stateless"]


class Regularizer(Protocol):
    """Reshapes an update before it is written. `state` is this regularizer's own part, for one site."""

    def apply(self, update: Update, write: SiteWrite, state: EditorState) -> Update:
        """Return the update to write instead; `write.weight` is what it will be added to."""
        ...

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Return this site's state after the batch."""
        ...


class Stateless:
    """A regularizer without state."""

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Return the state as it was."""
        return state


class ReadOut(Protocol):
    """Reshapes the accumulated change for scoring; editing continues from the weights as they were."""

    def view(self, change: torch.Tensor, base: torch.Tensor, site_name: str) -> torch.Tensor:
        """Return the change `[o, d]` to add to the unedited weight instead of `change`, float64."""
        ...
