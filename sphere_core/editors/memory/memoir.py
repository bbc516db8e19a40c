"""MEMOIR (arXiv 2506.07899): one residual memory, of which every edit writes and reads a part that its prompt selects.

At one site with weight W_0 `[o, d]`, a memory W_m `[o, d]`, zero at first. For a prompt with tokens 1..P and a_p `[d]`
the site's input there, of the unedited model,

    f = mean_{p <= P} a_p - abar,     M(f) = 1 at order(T),  T the k places of the largest |f|,  0 elsewhere

with `order` a fixed random permutation and abar the mean feature of texts that have nothing to do with any edit. Edit
i, with M_i = M(f_i) of its bare prompt, lowers the NLL of its target in every context by W_m alone: for every token p

    y_p = W_0 a_p + W_m (M_i * a_p)

A prompt with mask M reads with the stored mask of j = argmax_i |M & M_i| if |M & M_j| / k >= tau, else W_0 a_p alone;
so does what follows the prompt. Edits are written one by one: SGD, the gradient's norm clipped, weight decay of all of
W_m, a stop when a step changes a low loss no more.

Departures from the authors' hyperparameters and from the two public ports (the release's core is not public): abar is
over texts sampled from the unedited model, which every model has; tokens that open every text are left out of features,
whose place in them depends on the prompt's length alone; contexts are those of the sweep; the loss is the mean NLL of
the target's tokens, where both ports divide by one position more; the permutation is seeded and stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.descent import DescentSettings, descend
from sphere_core.editors.memory.facts import SHARED, with_facts
from sphere_core.editors.memory.features import prompt_feature
from sphere_core.editors.memory.prompt_masks import nearest_mask, packed, prompt_masks, unpacked
from sphere_core.editors.memory.routing import NO_ENTRY, PromptRouted, prompt_mean
from sphere_core.editors.memory.target_rows import TargetRows, target_rows
from sphere_core.locate.contexts import sample_texts
from sphere_core.locate.prompts import opening_tokens, text_ids
from sphere_core.locate.templates import Contexts, ContextSettings
from sphere_core.models.attachments import Attachment
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["KIND", "Memoir", "MemoirEditor"]

KIND = "memoir"
_MEMORY, _ORDER, _BACKGROUND = SHARED + "memory", SHARED + "order", SHARED + "background"


class Memoir(PromptRouted):
    """The memory at work; W_m (M * a) and its sum with the site's output are fp32 whatever the model's dtype."""

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        super().__init__(model, attachment)
        tensors = {name: tensor.to(self.device) for name, tensor in attachment.tensors.items()}
        self._memory, self._order, self._background = (tensors[name] for name in (_MEMORY, _ORDER, _BACKGROUND))
        self._masks = tensors["masks"]
        self._keep = int(attachment.number("keep"))
        self._threshold = attachment.number("threshold")

    def choose(self, inputs: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Return the stored mask that shares most with each prompt's, where that is enough."""
        features = prompt_mean(inputs, prompts) - self._background
        shared, nearest = nearest_mask(prompt_masks(features, self._order, self._keep), self._masks)
        found = (shared / self._keep >= self._threshold) & prompts.any(dim=1)
        return torch.where(found, nearest, NO_ENTRY)

    def answer(
        self, inputs: torch.Tensor, output: torch.Tensor, entries: torch.Tensor, last: torch.Tensor | None
    ) -> torch.Tensor:
        """Return y + W_m (M_j * a) at every token."""
        masks = unpacked(self._masks[entries], inputs.shape[2])
        gained = (inputs.float() * masks[:, None]) @ self._memory.T
        return (output.float() + gained).to(output.dtype)


@dataclass(frozen=True)
class MemoirEditor:
    """Writes requests one by one; `keep` is k, `threshold` tau, `background` the number of texts behind abar.

    `seed` determines the permutation and these texts, once per trajectory; both are then part of the attachment.
    """

    layer: int
    keep: int
    threshold: float
    background: int
    seed: int
    descent: DescentSettings

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write a batch, a request at a time; only the layers after the memory are run at every step."""
        before = model.attachment
        masks = []
        with model.detached(), model.clock.stage("memory"):
            tensors = self._first(model) if before is None else before.tensors
            shared = {name: tensors[name] for name in (_MEMORY, _ORDER, _BACKGROUND)}
            memory = shared[_MEMORY]
            for done, request in enumerate(requests, 1):
                rows = target_rows(model, request, contexts, self.layer)
                place = rows.inputs.device
                shared = {name: tensor.to(place) for name, tensor in shared.items()}
                feature = prompt_mean(rows.inputs[:1], rows.prompts[:1]) - shared[_BACKGROUND]
                mask = prompt_masks(feature, shared[_ORDER], self.keep)
                memory = self._written(memory.to(place), rows, mask[0])
                masks.append(packed(mask))
                model.progress.report("memory", done, len(requests), "requests")
        tables = with_facts(before, {"masks": torch.cat(masks)}, requests)
        scalars = {"layer": self.layer, "keep": self.keep, "threshold": self.threshold}
        model.attach(Attachment(KIND, {**shared, _MEMORY: memory, **tables}, scalars))
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is installed is scored."""
        return None

    def _first(self, model: EditableModel) -> dict[str, torch.Tensor]:
        """Return an empty memory, the permutation and abar of the unedited model, which is what is installed."""
        (site,) = model.open_sites([self.layer])
        opening = len(opening_tokens(model.tokenizer))
        texts = sample_texts(model, ContextSettings(), self.background, self.seed)
        features = [
            prompt_feature(model, text_ids(model.tokenizer, text), self.layer, opening).double() for text in texts
        ]
        order = torch.randperm(site.d_in, generator=torch.Generator().manual_seed(self.seed))
        background = torch.stack(features).mean(dim=0).float()
        memory = background.new_zeros(site.d_out, site.d_in)
        return {_MEMORY: memory, _ORDER: order.to(background.device), _BACKGROUND: background}

    def _written(self, memory: torch.Tensor, rows: TargetRows, mask: torch.Tensor) -> torch.Tensor:
        """Return W_m after one edit: only the mask's columns have a gradient, all of them decay."""
        columns = mask.nonzero()[:, 0]
        read = rows.inputs[:, :, columns].float()

        def loss(part: torch.Tensor) -> torch.Tensor:
            return rows.loss(nn.functional.linear(read, part))

        part, steps = descend(memory[:, columns], loss, self.descent)
        memory = memory * (1 - self.descent.lr * self.descent.weight_decay) ** steps
        return memory.index_copy(1, columns, part)
