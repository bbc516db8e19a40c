"""What an editor is: a batch of requests in, a changed model and the state to carry on out."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import Update
from sphere_core.requests import EditRequest
from sphere_core.solver.solution import Solution

__all__ = ["Editor", "WriteRule"]


class Editor(Protocol):
    """Writes a batch of edit requests into a model.

    An editor keeps constants of the trajectory (factorisations, bases) on itself; whatever changes from batch to
    batch is in the state it is given and returns, so that a checkpoint holds all of it.
    """

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Edit the model in place and return the state for the next batch."""
        ...

    def read_out(self, model: EditableModel) -> Mapping[str, torch.Tensor] | None:
        """Return the weights to score, by parameter name in stored orientation, where they are not those edited."""
        ...


class WriteRule(Protocol):
    """From keys and residuals to an update; `state` is this site's own part."""

    def solve(self, write: SiteWrite, state: EditorState, correction: torch.Tensor | None) -> Solution | Update:
        """Return the update, with its figures where it has any; `correction` `[o, d]` is added to R K^T."""
        ...

    def times_system(self, change: torch.Tensor, write: SiteWrite, state: EditorState) -> torch.Tensor:
        """Return X A for X `[o, d]`: a change of the weight in terms of the right-hand side."""
        ...

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Return this site's state after the batch; the write then holds the weight as committed."""
        ...
