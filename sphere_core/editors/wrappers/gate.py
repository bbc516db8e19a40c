"""A gate around any editor: accept a batch, shrink it, or reject it, by what it costs earlier edits.

STABLE (arXiv 2510.16089), for any editor. The cost of a batch is measured on the latest earlier edits, the anchors a
with T_a target tokens, by one of its budgets:

    bits           sum_a T_a max(0, NLL_a after - NLL_a before) / sum_a T_a,  NLL_a in bits per target token
    exact_match    share of anchors answered exactly before, minus the share after
    kl             sum_a (log2 p_after(y_a) - log2 p_before(y_a)) / sum_a T_a,  y_a the T_a most probable tokens, one
                   after another, with which the model after the batch continues anchor a

In bits an anchor that gains never pays for one that is lost. Over budget, the batch's change is scaled down: by
`halving`, or by `bisection` between 0 and 1 as released, where a scale below `min_scale` is a rejection. The released
code scales both LoRA factors, so that its scale acts squared; here s scales the change itself. Its answers are up to 64
tokens long; here they have the length of the anchor's target.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.base import Editor
from sphere_core.editors.wrappers.anchors import Measure, answers, cost, divergence
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["GateSettings", "GatedEditor"]


@dataclass(frozen=True)
class GateSettings:
    """Budget in bits per token or as a share of anchors, anchors measured, and how a smaller scale is looked for."""

    budget: float
    anchors: int
    steps: int
    measure: Measure
    search: Literal["halving", "bisection"]
    min_scale: float


@dataclass(frozen=True)
class GatedEditor:
    """State: the latest edits as anchors, and how many batches were accepted whole, shrunk and rejected.

    A rejected batch leaves weights and the editor's state as they were; a shrunk one keeps the editor's state.
    """

    editor: Editor
    places: tuple[Place, ...]
    settings: GateSettings

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Edit, measure, and keep what the budget allows."""
        gate, inner = state.part("gate"), state.part("editor")
        earlier = _anchors(gate)
        sites = model.open_sites(self.places)
        before = [model.weight(site) for site in sites]
        answered = answers(model, earlier) if earlier else None
        edited = self.editor.edit(model, requests, contexts, inner)
        after = [model.weight(site) for site in sites]

        def write(scale: float) -> None:
            for site, old, new in zip(sites, before, after, strict=True):
                # The whole change is put back as it was made, not as a sum that rounds.
                model.set_weight(site, new if scale == 1 else old + scale * (new - old) if scale else old)

        def fits(scale: float) -> bool:
            write(scale)
            if answered is None:
                return True
            if self.settings.measure == "kl":
                return divergence(model, earlier, lambda: write(0.0)) <= self.settings.budget
            return cost(answered, answers(model, earlier), self.settings.measure) <= self.settings.budget

        scale = 1.0 if fits(1.0) else self._smaller(fits)
        write(scale)
        verdict = "accepted" if scale == 1 else "shrunk" if scale else "rejected"
        kept = earlier if verdict == "rejected" else (earlier + list(requests))[-self.settings.anchors :]
        scalars = {**gate.scalars, verdict: int(gate.scalars.get(verdict, 0)) + 1, "anchors": _encoded(kept)}
        whole = state.with_part("editor", inner if verdict == "rejected" else edited)
        return whole.with_part("gate", EditorState({}, scalars))

    def read_out(self, model: EditableModel) -> Mapping[str, torch.Tensor] | None:
        """Return what the editor reads out."""
        return self.editor.read_out(model)

    def _smaller(self, fits: Callable[[float], bool]) -> float:
        """Return a scale below 1 that fits, 0 if none is found."""
        if self.settings.search == "halving":
            halves = (0.5**step for step in range(1, self.settings.steps + 1))
            return next((scale for scale in halves if fits(scale)), 0.0)
        low, high = 0.0, 1.0
        for _ in range(self.settings.steps):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low if low >= self.settings.min_scale else 0.0


def _encoded(requests: Sequence[EditRequest]) -> str:
    return json.dumps([[r.case_id, r.prompt, r.subject, r.target_new] for r in requests])


def _anchors(gate: EditorState) -> list[EditRequest]:
    stored = json.loads(str(gate.scalars.get("anchors", "[]")))
    return [EditRequest(case, prompt, subject, target, None, ()) for case, prompt, subject, target in stored]
