"""The editor that writes nothing: its trajectory is the unedited model, scored and fine-tuned as every other one."""

from collections.abc import Sequence

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["UneditedEditor"]


class UneditedEditor:
    """Counts requests and reads none."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Return the state as it is; the sites are opened, so that a checkpoint holds their weights."""
        model.open_sites(self._places)
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is scored is the model."""
        return None
