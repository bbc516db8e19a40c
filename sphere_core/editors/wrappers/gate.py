"""A gate around any editor: accept a batch, shrink it, or reject it, by what it costs earlier edits.

STABLE's idea (arXiv 2510.16089), editor-agnostic: the cost of a batch is the mean increase, in bits per target token,
of the NLL of the latest earlier edits. Over budget, the batch's change is halved up to `steps` times and measured
again, then rejected. The released code scales both LoRA factors, so that its scale acts squared; here s scales the
change itself.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.base import Editor
from sphere_core.locate.prompts import Contexts
from sphere_core.locate.supervision import supervise
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["GatedEditor"]


@dataclass(frozen=True)
class GatedEditor:
    """State: the latest edits as anchors, and how many batches were accepted whole, shrunk and rejected.

    A rejected batch leaves weights and the editor's state as they were; a shrunk one keeps the editor's state.
    """

    editor: Editor
    layers: tuple[int, ...]
    budget: float
    anchors: int
    steps: int

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Edit, measure, and keep what the budget allows."""
        gate, inner = state.part("gate"), state.part("editor")
        earlier = _anchors(gate)
        sites = model.open_sites(self.layers)
        before = [model.weight(site) for site in sites]
        cost = _bits(model, earlier) if earlier else 0.0
        edited = self.editor.edit(model, requests, contexts, inner)
        after = [model.weight(site) for site in sites]
        scale = 1.0
        while earlier and not _within(_bits(model, earlier) - cost, self.budget):
            scale = scale / 2 if scale > 0.5**self.steps else 0.0
            for site, old, new in zip(sites, before, after, strict=True):
                model.set_weight(site, old + scale * (new - old) if scale else old)
            if not scale:
                break
        verdict = "accepted" if scale == 1 else "shrunk" if scale else "rejected"
        kept = earlier if verdict == "rejected" else (earlier + list(requests))[-self.anchors :]
        scalars = {**gate.scalars, verdict: int(gate.scalars.get(verdict, 0)) + 1, "anchors": _encoded(kept)}
        whole = state.with_part("editor", inner if verdict == "rejected" else edited)
        return whole.with_part("gate", EditorState({}, scalars))

    def read_out(self, model: EditableModel) -> Mapping[str, torch.Tensor] | None:
        """Return what the editor reads out."""
        return self.editor.read_out(model)


def _bits(model: EditableModel, requests: Sequence[EditRequest]) -> float:
    """Return the mean NLL of the requests' new targets, in bits per token."""
    with torch.no_grad():
        return float(supervise(model, requests).loss(model)) / math.log(2)


def _within(increase: float, budget: float) -> bool:
    return math.isfinite(increase) and increase <= budget


def _encoded(requests: Sequence[EditRequest]) -> str:
    return json.dumps([[r.case_id, r.prompt, r.subject, r.target_new] for r in requests])


def _anchors(gate: EditorState) -> list[EditRequest]:
    stored = json.loads(str(gate.scalars.get("anchors", "[]")))
    return [EditRequest(case, prompt, subject, target, None, ()) for case, prompt, subject, target in stored]
