"""Read-out: score other weights than those from which editing continues (PRUNE)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.base import Editor
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.regularizers.base import ReadOut
from sphere_core.requests import EditRequest

__all__ = ["ReadOutEditor"]


@dataclass(frozen=True)
class ReadOutEditor:
    """An editor whose accumulated change is reshaped for scoring, and never fed back: W_0 + F(W_t - W_0)."""

    editor: Editor
    places: tuple[Place, ...]
    read_outs: Sequence[ReadOut]

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Edit as the editor does by itself."""
        return self.editor.edit(model, requests, contexts, state)

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor]:
        """Return W_0 + F(W_t - W_0) of every site, fp32, by parameter name in stored orientation."""
        viewed = {}
        for site in model.open_sites(self.places):
            base = model.base_weight(site)
            change = model.weight(site).double() - base.double()
            for read_out in self.read_outs:
                change = read_out.view(change, base, site.name)
            viewed[site.name] = site.stored((base.double() + change).float()).contiguous()
        return viewed
