"""What the target optimisation minimises: the recorded tail of a pass of requests, and where each token is scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from sphere_core.locate.batch import LocatedBatch
from sphere_core.locate.prompts import SubjectPrompt, encode_prompt, pad_right, target_ids
from sphere_core.models.editable import EditableModel
from sphere_core.models.suffix import Tail, TailLayout, record_tail
from sphere_core.models.whole_rows import WholeRows

__all__ = ["ESSENCE_PROMPT", "HitRule", "Objective", "Reading", "build_objective"]

ESSENCE_PROMPT = "{} is a"

# When a request has its target: every token of it most probable in every context, or ENCORE's count as released.
HitRule = Literal["every_token", "five_tokens"]
_RELEASED_COUNT = 5


@dataclass(frozen=True)
class Objective:
    """What the loss needs: recorded tail, and the position of each scored token among its rows.

    `rows`, `positions`, `ids`, `owners`, `weights` have one entry per (context, target token); the KL row is the
    last of each request's `per_request` rows.
    """

    tail: Tail | WholeRows
    h0: torch.Tensor
    per_request: int
    rows: torch.Tensor
    positions: torch.Tensor
    ids: torch.Tensor
    owners: torch.Tensor
    weights: torch.Tensor

    def keep(self, requests: torch.Tensor) -> "Objective":
        """Keep only some requests, given as indices into this objective's requests."""
        offsets = torch.arange(self.per_request, device=requests.device)
        rows = (requests[:, None] * self.per_request + offsets).reshape(-1)
        kept = torch.isin(self.owners, requests)
        renamed = torch.full((int(self.owners.max()) + 1,), -1, device=requests.device)
        renamed[requests] = torch.arange(len(requests), device=requests.device)
        owners = renamed[self.owners[kept]]
        return Objective(
            tail=self.tail.select(rows),
            h0=self.h0[requests],
            per_request=self.per_request,
            rows=self.rows[kept] % self.per_request + owners * self.per_request,
            positions=self.positions[kept],
            ids=self.ids[kept],
            owners=owners,
            weights=self.weights[kept],
        )

    def read(self, model: EditableModel, delta: torch.Tensor, *, hits: HitRule | None) -> "Reading":
        """Run the tail with delta added and read what the loss needs, and by the rule `hits` who has its target."""
        hidden = self.tail.hidden
        shift = torch.zeros_like(hidden)
        shift[:, 0] = delta.repeat_interleave(self.per_request, dim=0).to(hidden)
        out = self.tail.run(hidden + shift)
        essence = out[self.per_request - 1 :: self.per_request, 0]
        scored = out[self.rows.to(out.device), self.positions.to(out.device)]
        logs = model.logits(torch.cat([scored, essence])).log_softmax(dim=-1).to(delta.device)
        tokens, essence_logs = logs[: len(self.rows)], logs[len(self.rows) :]
        return Reading(
            token_logs=tokens.gather(1, self.ids[:, None]).squeeze(1),
            essence=essence_logs,
            most_probable=self._most_probable(tokens.detach(), len(delta), hits) if hits is not None else None,
        )

    def _most_probable(self, logs: torch.Tensor, count: int, rule: HitRule) -> torch.Tensor:
        right, none = logs.argmax(dim=-1) == self.ids, torch.zeros(count, device=logs.device)
        if rule == "every_token":
            return none.index_add(0, self.owners, (~right).float()) == 0
        # The release counts tokens, in all contexts but the first, and compares with a constant.
        counted = (right & (self.rows % self.per_request != 0)).float()
        return none.index_add(0, self.owners, counted) == _RELEASED_COUNT


@dataclass(frozen=True)
class Reading:
    """log p of each scored token `[p]`, log distributions at the KL positions `[n, vocabulary]`, and for each
    request whether it has its target by the rule that was given, if any."""

    token_logs: torch.Tensor
    essence: torch.Tensor
    most_probable: torch.Tensor | None


def build_objective(
    model: EditableModel, batch: LocatedBatch, chosen: range, layer: int, *, space: bool = True
) -> Objective:
    """Encode the rows of the chosen requests, run the model once and note where each target token is scored.

    Without `space` the targets follow their prompts without one.
    """
    rows: list[Sequence[int]] = []
    starts: list[int] = []
    scored: list[tuple[int, int, int, int, float]] = []
    per_request = batch.context_count + 1
    for owner, index in enumerate(chosen):
        request = batch.requests[index]
        target = target_ids(model.tokenizer, request, space=space)
        for prompt in batch.prompts[index * batch.context_count : (index + 1) * batch.context_count]:
            first = len(prompt.ids) - 1 - prompt.subject_last
            weight = 1 / (batch.context_count * len(target))
            scored += [(len(rows), first + k, token, owner, weight) for k, token in enumerate(target)]
            rows.append((*prompt.ids, *target[:-1]))
            starts.append(prompt.subject_last)
        essence: SubjectPrompt = encode_prompt(model.tokenizer, ESSENCE_PROMPT, request.subject)
        # What follows the subject is read by nothing.
        rows.append(essence.ids[: essence.subject_last + 1])
        starts.append(essence.subject_last)
    ids, mask = pad_right(rows, fill=0, device=model.device)
    layout = replace(TailLayout.of(ids.device), shares=ids.device.type == "cpu")
    columns = list(zip(*scored, strict=True))
    reads = torch.zeros(ids.shape, dtype=torch.bool)
    reads[columns[0], columns[1]] = True
    reads[per_request - 1 :: per_request, 0] = True
    on_host = ids.device.type == "cpu" and model.attachment is None
    tail = record_tail(model, layer, ids, mask, torch.tensor(starts), layout=layout, reads=reads if on_host else None)
    device = tail.hidden.device
    indices = torch.tensor(columns[:4]).to(device)
    return Objective(
        tail=tail,
        h0=tail.hidden[::per_request, 0].float(),
        per_request=per_request,
        rows=indices[0],
        positions=indices[1],
        ids=indices[2],
        owners=indices[3],
        weights=torch.tensor(columns[4], device=device),
    )
