"""Targets: the hidden state that makes the model say the new object, found by gradient descent for many requests at
once.

Symbols: n requests, C contexts, delta `[n, h]` added to the output of the last edited layer at the subject's last
token, h0 that output in the bare prompt. For each request (MEMIT, arXiv 2210.07229, as released):

    loss = mean over contexts and target tokens of -log p(target) + kl_factor * KL(p_delta || p_0) + decay * |delta| /
    |h0|^2

with the KL term at the subject's last token of "{subject} is a". Adam is element-wise, so the rows of delta evolve as
if each were alone; a request that meets the stop rule leaves with its delta, its moments and its step count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.batch import LocatedBatch
from sphere_core.locate.prompts import SubjectPrompt, encode_prompt, pad_right, target_ids
from sphere_core.models.editable import EditableModel
from sphere_core.models.tail import Tail, record_tail

__all__ = ["Targets", "optimise_targets"]

ESSENCE_PROMPT = "{} is a"
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Targets:
    """Z `[d_out, n]` fp32, with each request's last loss and the number of Adam steps it took."""

    values: torch.Tensor
    losses: tuple[float, ...]
    steps: tuple[int, ...]


def optimise_targets(model: EditableModel, batch: LocatedBatch, hyperparameters: Hyperparameters) -> Targets:
    """Return the targets of a batch at the last edited layer, optimised in groups of `requests_per_pass`.

    delta is fp32 whatever the model's dtype. After each step |delta| <= clamp_norm_factor |h0|. The last of
    `v_num_grad_steps` forwards only measures, as in the released code. Departs from it in that target ids
    are appended to the prompt's ids instead of being decoded and encoded again with the text.
    """
    parts = []
    for start in range(0, len(batch.requests), hyperparameters.requests_per_pass):
        chosen = range(start, min(start + hyperparameters.requests_per_pass, len(batch.requests)))
        parts.append(_optimise(model, batch, chosen, hyperparameters))
    return Targets(
        torch.cat([part.values for part in parts], dim=1),
        tuple(loss for part in parts for loss in part.losses),
        tuple(step for part in parts for step in part.steps),
    )


@dataclass(frozen=True)
class _Objective:
    """What the loss needs: recorded tail, and where each scored token stands among its rows.

    `rows`, `positions`, `ids`, `owners`, `weights` have one entry a (context, target token); the KL row is the
    last of each request's `per_request` rows.
    """

    tail: Tail
    h0: torch.Tensor
    per_request: int
    rows: torch.Tensor
    positions: torch.Tensor
    ids: torch.Tensor
    owners: torch.Tensor
    weights: torch.Tensor

    def keep(self, requests: torch.Tensor) -> "_Objective":
        """Keep only some requests, given as indices into this objective's requests."""
        offsets = torch.arange(self.per_request, device=requests.device)
        rows = (requests[:, None] * self.per_request + offsets).reshape(-1)
        kept = torch.isin(self.owners, requests)
        renamed = torch.full((int(self.owners.max()) + 1,), -1, device=requests.device)
        renamed[requests] = torch.arange(len(requests), device=requests.device)
        owners = renamed[self.owners[kept]]
        return _Objective(
            tail=self.tail.select(rows),
            h0=self.h0[requests],
            per_request=self.per_request,
            rows=self.rows[kept] % self.per_request + owners * self.per_request,
            positions=self.positions[kept],
            ids=self.ids[kept],
            owners=owners,
            weights=self.weights[kept],
        )

    def log_probabilities(self, model: EditableModel, delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log p of each scored token `[p]` and the log distribution at each KL position `[n, vocabulary]`."""
        hidden = self.tail.hidden
        shift = torch.zeros_like(hidden)
        shift[:, 0] = delta.repeat_interleave(self.per_request, dim=0).to(hidden)
        out = self.tail.run(hidden + shift)
        essence = out[self.per_request - 1 :: self.per_request, 0]
        scored = out[self.rows.to(out.device), self.positions.to(out.device)]
        logits = model.logits(torch.cat([scored, essence])).log_softmax(dim=-1).to(delta.device)
        count = len(self.rows)
        return logits[:count].gather(1, self.ids[:, None]).squeeze(1), logits[count:]


def _optimise(model: EditableModel, batch: LocatedBatch, chosen: range, hyperparameters: Hyperparameters) -> Targets:
    objective = _objective(model, batch, chosen, hyperparameters.layers[-1])
    h0 = objective.h0
    deltas, losses = torch.zeros_like(h0), [math.nan] * len(chosen)
    steps = [0] * len(chosen)
    active = torch.arange(len(chosen), device=h0.device)
    delta = torch.zeros_like(h0)
    first, second = torch.zeros_like(h0), torch.zeros_like(h0)
    initial: torch.Tensor | None = None
    for step in range(hyperparameters.v_num_grad_steps):
        delta = delta.detach().requires_grad_(True)
        token_logs, essence = objective.log_probabilities(model, delta)
        initial = essence.detach() if initial is None else initial
        loss = _loss(objective, token_logs, essence, initial, delta, hyperparameters)
        for place, value in zip(active.tolist(), loss.detach().tolist(), strict=True):
            losses[place], steps[place] = value, step
        finished = loss.detach() < hyperparameters.v_stop_loss
        if step == hyperparameters.v_num_grad_steps - 1 or bool(finished.all()):
            break
        (gradient,) = torch.autograd.grad(loss.sum(), delta)
        delta = delta.detach()
        if bool(finished.any()):
            deltas[active[finished]] = delta[finished]
            keep = (~finished).nonzero().squeeze(1)
            objective, active = objective.keep(keep), active[keep]
            delta, gradient, initial = delta[keep], gradient[keep], initial[keep]
            first, second = first[keep], second[keep]
        first = _BETA1 * first + (1 - _BETA1) * gradient
        second = _BETA2 * second + (1 - _BETA2) * gradient.square()
        rate = hyperparameters.v_lr / (1 - _BETA1 ** (step + 1))
        delta = delta - rate * first / ((second / (1 - _BETA2 ** (step + 1))).sqrt() + _EPSILON)
        delta = _clamped(delta, objective.h0, hyperparameters.clamp_norm_factor)
    deltas[active] = delta.detach()
    return Targets((h0 + deltas).T.contiguous(), tuple(losses), tuple(steps))


def _loss(
    objective: _Objective,
    token_logs: torch.Tensor,
    essence: torch.Tensor,
    initial: torch.Tensor,
    delta: torch.Tensor,
    hyperparameters: Hyperparameters,
) -> torch.Tensor:
    """Return the loss of each request `[n]`."""
    zeros = torch.zeros(len(delta), device=delta.device)
    likelihood = zeros.index_add(0, objective.owners, -token_logs * objective.weights)
    divergence = (essence.exp() * (essence - initial)).sum(dim=-1)
    norms = torch.linalg.vector_norm(objective.h0, dim=1)
    decay = torch.linalg.vector_norm(delta, dim=1) / norms.square()
    loss: torch.Tensor = likelihood + hyperparameters.kl_factor * divergence + hyperparameters.v_weight_decay * decay
    return loss


def _clamped(delta: torch.Tensor, h0: torch.Tensor, factor: float) -> torch.Tensor:
    limit = factor * torch.linalg.vector_norm(h0, dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(delta, dim=1, keepdim=True)
    return torch.where(norm > limit, delta * (limit / norm), delta)


def _objective(model: EditableModel, batch: LocatedBatch, chosen: range, layer: int) -> _Objective:
    """Encode the rows of the chosen requests, run the model once and note where each target token is scored."""
    rows: list[Sequence[int]] = []
    starts: list[int] = []
    scored: list[tuple[int, int, int, int, float]] = []
    per_request = batch.context_count + 1
    for owner, index in enumerate(chosen):
        request = batch.requests[index]
        target = target_ids(model.tokenizer, request)
        for prompt in batch.prompts[index * batch.context_count : (index + 1) * batch.context_count]:
            first = len(prompt.ids) - 1 - prompt.subject_last
            weight = 1 / (batch.context_count * len(target))
            scored += [(len(rows), first + k, token, owner, weight) for k, token in enumerate(target)]
            rows.append((*prompt.ids, *target[:-1]))
            starts.append(prompt.subject_last)
        essence: SubjectPrompt = encode_prompt(model.tokenizer, ESSENCE_PROMPT, request.subject)
        rows.append(essence.ids)
        starts.append(essence.subject_last)
    ids, mask = pad_right(rows, fill=0, device=model.device)
    tail = record_tail(model, layer, ids, mask, torch.tensor(starts, device=model.device))
    columns = list(zip(*scored, strict=True))
    device = tail.hidden.device
    indices = [torch.tensor(column, device=device) for column in columns[:4]]
    return _Objective(
        tail=tail,
        h0=tail.hidden[::per_request, 0].float(),
        per_request=per_request,
        rows=indices[0],
        positions=indices[1],
        ids=indices[2],
        owners=indices[3],
        weights=torch.tensor(columns[4], device=device),
    )
