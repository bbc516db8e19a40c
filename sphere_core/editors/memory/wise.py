"""WISE (arXiv 2405.14768), its retrieving form: edits go into side memories, and a prompt reads the one it moves most.

At one site with weight W `[o, d]`, side memories W + D_s. With a_p `[d]` the site's input at the tokens of a prompt,

    u_s = mean_p |D_s a_p|,     y_p = (W + D_s) a_p  at every token, s = argmax u_s over those with u_s > rho floor_s,
                                y_p = W a_p          if there is none

floor_s is the smallest u_s that an edit had when it was written. Edit i lowers, in the memory that is being written,

    NLL(target) + [v - alpha]+ + [beta - u]+ + [gamma + v - u]+

with u its own activation (the mean over contexts) and v that of an unrelated text. D is sparse: a random share of its
entries, drawn per memory, may change, each by at most a bound. After a number of edits a new memory begins; after a
number of memories those since the last merge become one: per entry, those whose sign is the majority's are averaged
(TIES), from the largest entries of each.

Departures from EasyEdit's code (14cea82), the authors' own: activations are |D a| as in the paper, where the code
compares the outputs behind the MLP's activation function; they are means over the prompt's tokens, where the code takes
all tokens, padding and target included, and in queries of more than 100 tokens the largest; tokens that open every text
are left out; unrelated texts are sampled from the unedited model; decay acts on D, where the code shrinks W itself, by
14 % in 500 edits of 30 steps; of the memories above their floors the largest answers, where the code lets the memory
that is being written hide those with a smaller activation even when it is below its own floor. Replay, off in every
published file, is left out, and so is the form that keeps one memory only (a large number of edits per memory is that).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.descent import DescentSettings, descend
from sphere_core.editors.memory.facts import SHARED
from sphere_core.editors.memory.routing import NO_ENTRY, PromptRouted, prompt_mean
from sphere_core.editors.memory.target_rows import TargetRows, target_rows
from sphere_core.locate.contexts import sample_texts
from sphere_core.locate.prompts import opening_tokens, pad_right, text_ids
from sphere_core.locate.templates import Contexts, ContextSettings
from sphere_core.models.activations import capture_inputs
from sphere_core.models.attachments import Attachment
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["KIND", "Wise", "WiseEditor", "WiseSettings", "merged"]

KIND = "wise"
_CHANGES, _FLOORS = SHARED + "changes", SHARED + "floors"
# State of the editor: ids of the unrelated texts, and how many of each row are tokens.
_TEXTS, _LENGTHS = "texts", "lengths"


@dataclass(frozen=True)
class WiseSettings:
    """Margins alpha, beta, gamma; rho; the share of entries that a memory may change and their bound; edits per memory
    and per merge; the share of entries that a merge keeps of each; number of unrelated texts; seed."""

    layer: int
    margins: tuple[float, float, float]
    ratio: float
    share: float
    bound: float
    shard_edits: int
    merge_edits: int
    density: float
    background: int
    seed: int
    descent: DescentSettings


class Wise(PromptRouted):
    """The side memories at work; D a and its sum with the site's output are fp32 whatever the model's dtype."""

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        super().__init__(model, attachment)
        self._changes = attachment.tensors[_CHANGES].to(self.device)
        self._floors = attachment.tensors[_FLOORS].to(self.device)
        self._ratio = attachment.number("ratio")

    def choose(self, inputs: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Return the memory that each prompt moves most, of those that it moves far enough."""
        moved = torch.stack([activation(inputs, change, prompts) for change in self._changes], dim=1)
        best, place = torch.where(moved > self._ratio * self._floors, moved, -torch.inf).max(dim=1)
        return torch.where(torch.isfinite(best) & prompts.any(dim=1), place, NO_ENTRY)

    def answer(
        self, inputs: torch.Tensor, output: torch.Tensor, entries: torch.Tensor, last: torch.Tensor | None
    ) -> torch.Tensor:
        """Return y + D_s a at every token."""
        changed = output.float()
        for place, change in enumerate(self._changes):
            rows = (entries == place)[:, None, None]
            changed = torch.where(rows, changed + nn.functional.linear(inputs.float(), change), changed)
        return changed.to(output.dtype)


@dataclass(frozen=True)
class WiseEditor:
    """Writes requests one by one into the memory that is open; its number is that of the edits before it, by shards."""

    settings: WiseSettings

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write a batch, a request at a time; only the layers after the site are run at every step."""
        before, settings = model.attachment, self.settings
        written = 0 if before is None else int(before.number("edits"))
        with model.detached(), model.clock.stage("memory"):
            own = state.part(KIND)
            own = own if own.tensors else self._sampled(model)
            inputs, prompts = self._unrelated(model, own)
            changes, floors = self._memories(model, before, inputs.device)
            for done, request in enumerate(requests, 1):
                if written % settings.shard_edits == 0:
                    (site,) = model.open_sites([settings.layer])
                    changes = [*changes, torch.zeros(site.d_out, site.d_in, device=inputs.device)]
                    floors = [*floors, torch.inf]
                rows = target_rows(model, request, contexts, settings.layer)
                text = written % len(inputs)
                unrelated = inputs[text : text + 1], prompts[text : text + 1]
                changes[-1] = self._written(changes[-1], rows, unrelated, written // settings.shard_edits)
                floors[-1] = min(floors[-1], float(activation(rows.inputs, changes[-1], rows.prompts).mean()))
                written += 1
                if written % settings.merge_edits == 0:
                    count = settings.merge_edits // settings.shard_edits
                    changes[-count:] = [merged(torch.stack(changes[-count:]), settings.density)]
                    floors[-count:] = [min(floors[-count:])]
                model.progress.report("memory", done, len(requests), "requests")
        tensors = {_CHANGES: torch.stack(changes), _FLOORS: torch.tensor(floors, device=changes[0].device)}
        scalars = {"layer": settings.layer, "ratio": settings.ratio, "edits": written}
        model.attach(Attachment(KIND, tensors, scalars))
        return state.with_part(KIND, own)

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is installed is scored."""
        return None

    def _memories(
        self, model: EditableModel, before: Attachment | None, device: torch.device
    ) -> tuple[list[torch.Tensor], list[float]]:
        if before is None:
            return [], []
        return [*before.tensors[_CHANGES].to(device)], before.tensors[_FLOORS].tolist()

    def _sampled(self, model: EditableModel) -> EditorState:
        """Return the unrelated texts as ids, sampled from the unedited model, which is what is installed."""
        texts = sample_texts(model, ContextSettings(), self.settings.background, self.settings.seed)
        rows = [text_ids(model.tokenizer, text) for text in texts]
        ids, mask = pad_right(rows, fill=0, device=model.device)
        return EditorState({_TEXTS: ids, _LENGTHS: mask.sum(dim=1)})

    def _unrelated(self, model: EditableModel, own: EditorState) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the site reads of the unrelated texts `[n, T, d]`, and which of these tokens count `[n, T]`."""
        ids, lengths = own.tensors[_TEXTS].to(model.device), own.tensors[_LENGTHS].to(model.device)
        places = torch.arange(ids.shape[1], device=ids.device)
        mask = (places < lengths[:, None]).long()
        module = model.network.get_submodule(model.family.site_path(self.settings.layer))
        with torch.no_grad():
            inputs = capture_inputs(
                {"site": module}, lambda: model.decoder(input_ids=ids, attention_mask=mask, use_cache=False)
            )["site"]
        counted = mask.bool() & (places >= len(opening_tokens(model.tokenizer)))
        return inputs, counted.to(inputs.device)

    def _written(
        self, change: torch.Tensor, rows: TargetRows, unrelated: tuple[torch.Tensor, torch.Tensor], shard: int
    ) -> torch.Tensor:
        """Return D of the open memory after one edit."""
        settings = self.settings
        alpha, beta, gamma = settings.margins
        generator = torch.Generator().manual_seed(settings.seed + shard)
        mask = (torch.rand(change.shape, generator=generator) < settings.share).to(change.device)
        read = rows.inputs.float()

        def loss(weight: torch.Tensor) -> torch.Tensor:
            given = nn.functional.linear(read, weight)
            near = prompt_mean(_lengths(given), rows.prompts)[:, 0]
            far = activation(unrelated[0], weight, unrelated[1])
            margins = _positive(far - alpha) + _positive(beta - near) + _positive(gamma + far - near)
            return rows.loss(given) + margins

        def within(weight: torch.Tensor) -> torch.Tensor:
            return (weight * mask).clamp(-settings.bound, settings.bound)

        return descend(change, loss, settings.descent, after_step=within)[0]


def activation(inputs: torch.Tensor, change: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """Return u `[m]`: the mean of |D a| over each row's prompt `[m, T]`; `inputs` `[m, T, d]`, D `[o, d]`."""
    return prompt_mean(_lengths(nn.functional.linear(inputs.float(), change)), prompts)[:, 0]


def merged(changes: torch.Tensor, density: float) -> torch.Tensor:
    """Merge changes `[k, o, d]` into one (TIES, arXiv 2306.01708): of the `density` largest entries of each, the mean
    of those that have the sign of their sum."""
    count = int(density * changes[0].numel())
    kept = torch.zeros_like(changes)
    for place, change in enumerate(changes):
        largest = change.abs().flatten().topk(count).indices
        kept[place].view(-1)[largest] = change.flatten()[largest]
    sign = torch.where(kept.sum(dim=0) >= 0, 1.0, -1.0)
    agree = kept.sign() == sign
    total: torch.Tensor = (kept * agree).sum(dim=0)
    return total / agree.sum(dim=0).clamp_min(1)


def _lengths(rows: torch.Tensor) -> torch.Tensor:
    """Return the norm of each token `[m, T, 1]`, with a gradient of zero where it is zero."""
    squares = rows.square().sum(dim=-1, keepdim=True)
    none = squares == 0
    return torch.where(none, 0.0, torch.where(none, 1.0, squares).sqrt())


def _positive(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the positive values, 0 without one."""
    total: torch.Tensor = values.clamp_min(0).sum()
    return total / (values > 0).sum().clamp_min(1)
