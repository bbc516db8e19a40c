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
from dataclasses import dataclass, replace

import torch

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.batch import LocatedBatch
from sphere_core.locate.prompts import SubjectPrompt, encode_prompt, pad_right, target_ids
from sphere_core.models.editable import EditableModel
from sphere_core.models.suffix import Tail, record_tail

__all__ = ["TargetSettings", "Targets", "optimise_targets"]

ESSENCE_PROMPT = "{} is a"
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class TargetSettings:
    """The hyperparameters of the target optimisation, all of them set.

    `most_probable_steps` is ENCORE's stop rule (arXiv 2502.01636), done right: a request stops once every target token
    was the most probable one in every context in this many forwards. 0 turns it off.
    """

    layer: int
    v_lr: float
    v_num_grad_steps: int
    v_weight_decay: float
    clamp_norm_factor: float
    kl_factor: float
    v_stop_loss: float
    requests_per_pass: int
    most_probable_steps: int

    @classmethod
    def of(cls, hyperparameters: Hyperparameters) -> "TargetSettings":
        """Read the settings; raises InputError naming the first that is missing."""
        return cls(
            layer=hyperparameters.layers[-1],
            v_lr=hyperparameters.number("v_lr"),
            v_num_grad_steps=int(hyperparameters.number("v_num_grad_steps")),
            v_weight_decay=hyperparameters.number("v_weight_decay"),
            clamp_norm_factor=hyperparameters.number("clamp_norm_factor"),
            kl_factor=hyperparameters.number("kl_factor"),
            v_stop_loss=hyperparameters.v_stop_loss,
            requests_per_pass=hyperparameters.requests_per_pass,
            most_probable_steps=abs(hyperparameters.prob_cutoff or 0),
        )


@dataclass(frozen=True)
class Targets:
    """What was found: `starts` h0 and `deltas`, both `[h, n]` fp32, with each request's last loss and Adam steps."""

    starts: torch.Tensor
    deltas: torch.Tensor
    losses: tuple[float, ...]
    steps: tuple[int, ...]

    @property
    def values(self) -> torch.Tensor:
        """The targets Z = h0 + delta."""
        return self.starts + self.deltas


def optimise_targets(
    model: EditableModel,
    batch: LocatedBatch,
    settings: TargetSettings,
    *,
    anchors: torch.Tensor | None = None,
) -> Targets:
    """Return the targets of a batch at the last edited layer, optimised in groups of `requests_per_pass`.

    `anchors` `[h, n]` take the place of h0 in the clamp, the decay and the result: ROME's targets are MLP outputs, to
    which a delta adds just as it adds to the layer's output.

    delta is fp32 whatever the model's dtype. After each step |delta| <= clamp_norm_factor |h0|. The last of
    `v_num_grad_steps` forwards only measures, as in the released code. Departs from it in that target ids
    are appended to the prompt's ids instead of being decoded and encoded again with the text.
    """
    parts = []
    for start in range(0, len(batch.requests), settings.requests_per_pass):
        chosen = range(start, min(start + settings.requests_per_pass, len(batch.requests)))
        objective = _objective(model, batch, chosen, settings.layer)
        if anchors is not None:
            objective = replace(objective, h0=anchors[:, chosen.start : chosen.stop].T.to(objective.h0))
        parts.append(_optimise(model, objective, settings))
    return Targets(
        torch.cat([part.starts for part in parts], dim=1),
        torch.cat([part.deltas for part in parts], dim=1),
        tuple(loss for part in parts for loss in part.losses),
        tuple(step for part in parts for step in part.steps),
    )


@dataclass(frozen=True)
class _Objective:
    """What the loss needs: recorded tail, and the position of each scored token among its rows.

    `rows`, `positions`, `ids`, `owners`, `weights` have one entry per (context, target token); the KL row is the
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

    def read(self, model: EditableModel, delta: torch.Tensor) -> "_Reading":
        """Run the tail with delta added and read what the loss and the stop rules need."""
        hidden = self.tail.hidden
        shift = torch.zeros_like(hidden)
        shift[:, 0] = delta.repeat_interleave(self.per_request, dim=0).to(hidden)
        out = self.tail.run(hidden + shift)
        essence = out[self.per_request - 1 :: self.per_request, 0]
        scored = out[self.rows.to(out.device), self.positions.to(out.device)]
        logs = model.logits(torch.cat([scored, essence])).log_softmax(dim=-1).to(delta.device)
        tokens, essence_logs = logs[: len(self.rows)], logs[len(self.rows) :]
        wrong = tokens.detach().argmax(dim=-1) != self.ids
        return _Reading(
            token_logs=tokens.gather(1, self.ids[:, None]).squeeze(1),
            essence=essence_logs,
            most_probable=torch.zeros(len(delta), device=delta.device).index_add(0, self.owners, wrong.float()) == 0,
        )


@dataclass(frozen=True)
class _Reading:
    """log p of each scored token `[p]`, log distributions at the KL positions `[n, vocabulary]`, and for each
    request whether every target token is the most probable one in every context."""

    token_logs: torch.Tensor
    essence: torch.Tensor
    most_probable: torch.Tensor


def _optimise(model: EditableModel, objective: _Objective, settings: TargetSettings) -> Targets:
    start = objective.h0
    count = len(start)
    deltas, losses, steps = torch.zeros_like(start), [math.nan] * count, [0] * count
    active = torch.arange(count, device=start.device)
    delta, first, second = torch.zeros_like(start), torch.zeros_like(start), torch.zeros_like(start)
    hits = torch.zeros(count, device=start.device)
    initial: torch.Tensor | None = None
    for step in range(settings.v_num_grad_steps):
        delta = delta.detach().requires_grad_(True)
        reading = objective.read(model, delta)
        initial = reading.essence.detach() if initial is None else initial
        loss = _loss(objective, reading, initial, delta, settings)
        for place, value in zip(active.tolist(), loss.detach().tolist(), strict=True):
            losses[place], steps[place] = value, step
        hits = hits + reading.most_probable
        finished = loss.detach() < settings.v_stop_loss
        if settings.most_probable_steps:
            finished |= hits >= settings.most_probable_steps
        if step == settings.v_num_grad_steps - 1 or bool(finished.all()):
            break
        (gradient,) = torch.autograd.grad(loss.sum(), delta)
        delta = delta.detach()
        if bool(finished.any()):
            deltas[active[finished]] = delta[finished]
            keep = (~finished).nonzero().squeeze(1)
            objective, active, initial = objective.keep(keep), active[keep], initial[keep]
            delta, gradient, first, second, hits = (x[keep] for x in (delta, gradient, first, second, hits))
        first = _BETA1 * first + (1 - _BETA1) * gradient
        second = _BETA2 * second + (1 - _BETA2) * gradient.square()
        rate = settings.v_lr / (1 - _BETA1 ** (step + 1))
        delta = delta - rate * first / ((second / (1 - _BETA2 ** (step + 1))).sqrt() + _EPSILON)
        delta = _clamped(delta, objective.h0, settings.clamp_norm_factor)
    deltas[active] = delta.detach()
    return Targets(start.T.contiguous(), deltas.T.contiguous(), tuple(losses), tuple(steps))


def _loss(
    objective: _Objective,
    reading: _Reading,
    initial: torch.Tensor,
    delta: torch.Tensor,
    settings: TargetSettings,
) -> torch.Tensor:
    """Return the loss of each request `[n]`."""
    zeros = torch.zeros(len(delta), device=delta.device)
    likelihood = zeros.index_add(0, objective.owners, -reading.token_logs * objective.weights)
    divergence = (reading.essence.exp() * (reading.essence - initial)).sum(dim=-1)
    norms = torch.linalg.vector_norm(objective.h0, dim=1)
    decay = torch.linalg.vector_norm(delta, dim=1) / norms.square()
    loss: torch.Tensor = likelihood + settings.kl_factor * divergence + settings.v_weight_decay * decay
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
