"""Targets: the hidden state that makes the model say the new object, found by gradient descent for many requests at
once.

Symbols: n requests, C contexts, delta `[n, h]` added to the output of the last edited layer at the subject's last
token, h0 that output in the bare prompt. For each request (MEMIT, arXiv 2210.07229, as released):

    loss = mean over contexts and target tokens of -log p(target) + kl_factor * KL(p_delta || p_0) + decay * |delta| /
    |h0|^2

with the KL term at the subject's last token of "{subject} is a". Adam is element-wise, so the rows of delta evolve as
if each were alone; a request that meets the stop rule keeps its delta, its moments and its step count.

On a processor requests that are done leave the pass at once, which makes it smaller. On an accelerator every look at
who is done would be waited for: there they stay, unchanged, until a look in every few steps finds most of them done.
"""

import math
from dataclasses import dataclass, replace

import torch

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.batch import LocatedBatch
from sphere_core.locate.objective import HitRule, Objective, Reading, build_objective
from sphere_core.models.editable import EditableModel

__all__ = ["TargetSettings", "Targets", "optimise_targets"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
# On an accelerator: steps between two looks at who is done, and the share still at work below which the others leave.
_LOOK_EVERY, _LEAVE_SHARE = 4, 0.5


@dataclass(frozen=True)
class TargetSettings:
    """The hyperparameters of the target optimisation, all of them set.

    `most_probable_steps` is ENCORE's stop rule (arXiv 2502.01636), done right: a request stops once every target token
    was the most probable one in every context in this many forwards. 0 turns it off; `hit_rule` `five_tokens` counts
    as the release does: exactly five right tokens in all contexts but the first. `layer` is the last edited one,
    or with `forward` the first; `root` spreads otherwise (`layer_targets`). `space` False leaves out the space before a
    target (NSE as released).
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
    forward: bool = False
    root: bool = False
    space: bool = True
    hit_rule: HitRule = "every_token"

    @classmethod
    def of(cls, hyperparameters: Hyperparameters) -> "TargetSettings":
        """Read the settings; raises InputError naming the first that is missing."""
        forward = hyperparameters.targets == "forward"
        return cls(
            layer=hyperparameters.layers[0 if forward else -1],
            v_lr=hyperparameters.number("v_lr"),
            v_num_grad_steps=int(hyperparameters.number("v_num_grad_steps")),
            v_weight_decay=hyperparameters.number("v_weight_decay"),
            clamp_norm_factor=hyperparameters.number("clamp_norm_factor"),
            kl_factor=hyperparameters.number("kl_factor"),
            v_stop_loss=hyperparameters.v_stop_loss,
            requests_per_pass=hyperparameters.requests_per_pass,
            most_probable_steps=abs(hyperparameters.prob_cutoff or 0),
            forward=forward,
            root=hyperparameters.targets == "root",
            hit_rule=hyperparameters.encore_stop or "every_token",
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
    """Return the targets of a batch at the layer of the settings, optimised in groups of `requests_per_pass`.

    `anchors` `[h, n]` take the place of h0 in the clamp, the decay and the result: ROME's targets are MLP outputs, to
    which a delta adds just as it adds to the layer's output.

    delta is fp32 whatever the model's dtype. After each step |delta| <= clamp_norm_factor |h0|. The last of
    `v_num_grad_steps` forwards only measures, as in the released code. Departs from it in that target ids
    are appended to the prompt's ids instead of being decoded and encoded again with the text.
    """
    parts = []
    for start in range(0, len(batch.requests), settings.requests_per_pass):
        chosen = range(start, min(start + settings.requests_per_pass, len(batch.requests)))
        with model.clock.stage("targets"):
            objective = build_objective(model, batch, chosen, settings.layer, space=settings.space)
            if anchors is not None:
                objective = replace(objective, h0=anchors[:, chosen.start : chosen.stop].T.to(objective.h0))
            parts.append(_optimise(model, objective, settings, chosen.start, len(batch.requests)))
    return Targets(
        torch.cat([part.starts for part in parts], dim=1),
        torch.cat([part.deltas for part in parts], dim=1),
        tuple(loss for part in parts for loss in part.losses),
        tuple(step for part in parts for step in part.steps),
    )


@dataclass
class _Rows:
    """The requests of a pass that are still in it, at `places` `[r]` of the pass: Adam's state, and what was reached.

    `active` says which still move; of the others `delta`, `loss` and `steps` are final.
    """

    places: torch.Tensor
    delta: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    hits: torch.Tensor
    loss: torch.Tensor
    steps: torch.Tensor
    active: torch.Tensor

    @classmethod
    def start(cls, h0: torch.Tensor) -> "_Rows":
        """Return all requests at delta = 0."""
        zeros, count, device = torch.zeros_like(h0), len(h0), h0.device
        return cls(
            places=torch.arange(count, device=device),
            delta=zeros,
            first=zeros,
            second=zeros,
            hits=torch.zeros(count, device=device),
            loss=torch.full((count,), math.nan, device=device),
            steps=torch.zeros(count, dtype=torch.long, device=device),
            active=torch.ones(count, dtype=torch.bool, device=device),
        )

    def note(self, loss: torch.Tensor, reading: Reading, step: int, settings: TargetSettings) -> None:
        """Note a forward of the active rows, and which of them are done with it."""
        self.loss = torch.where(self.active, loss, self.loss)
        self.steps = torch.where(self.active, step, self.steps)
        finished = loss < settings.v_stop_loss
        if reading.most_probable is not None:
            self.hits = self.hits + reading.most_probable
            finished |= self.hits >= settings.most_probable_steps
        self.active = self.active & ~finished

    def step(self, gradient: torch.Tensor, h0: torch.Tensor, step: int, settings: TargetSettings) -> None:
        """Move the active rows by Adam, and clamp them."""
        self.first = _BETA1 * self.first + (1 - _BETA1) * gradient
        self.second = _BETA2 * self.second + (1 - _BETA2) * gradient.square()
        rate = settings.v_lr / (1 - _BETA1 ** (step + 1))
        moved = self.delta - rate * self.first / ((self.second / (1 - _BETA2 ** (step + 1))).sqrt() + _EPSILON)
        moved = _clamped(moved, h0, settings.clamp_norm_factor)
        self.delta = torch.where(self.active[:, None], moved, self.delta)

    def keep(self, rows: torch.Tensor) -> "_Rows":
        """Return some of the rows."""
        return _Rows(**{name: value[rows] for name, value in vars(self).items()})

    def put(self, whole: "_Rows") -> None:
        """Write what was reached to the rows' places among all requests of the pass."""
        whole.delta[self.places], whole.loss[self.places], whole.steps[self.places] = self.delta, self.loss, self.steps


def _optimise(model: EditableModel, objective: Objective, settings: TargetSettings, before: int, of: int) -> Targets:
    """Optimise one pass; `before` of the batch's `of` requests have their targets already."""
    on_host = objective.h0.device.type == "cpu"
    starts, rows = objective.h0, _Rows.start(objective.h0)
    reached = replace(rows, delta=rows.delta.clone(), loss=rows.loss.clone(), steps=rows.steps.clone())
    initial: torch.Tensor | None = None
    for step in range(settings.v_num_grad_steps):
        delta = rows.delta.detach().requires_grad_(True)
        reading = objective.read(model, delta, hits=settings.hit_rule if settings.most_probable_steps > 0 else None)
        initial = reading.essence.detach() if initial is None else initial
        loss = _loss(objective, reading, initial, delta, settings)
        rows.note(loss.detach(), reading, step, settings)
        if step == settings.v_num_grad_steps - 1:
            break
        looks = on_host or (step + 1) % _LOOK_EVERY == 0
        left = int(rows.active.sum()) if looks else len(rows.places)
        model.progress.report("targets", before + len(starts) - left, of, "requests")
        if left == 0:
            break
        (gradient,) = torch.autograd.grad(loss.sum(), delta)
        if left < len(rows.places) and (on_host or left <= _LEAVE_SHARE * len(rows.places)):
            rows.put(reached)
            kept = rows.active.nonzero().squeeze(1)
            objective, initial, gradient = objective.keep(kept), initial[kept], gradient[kept]
            rows = rows.keep(kept)
        rows.step(gradient, objective.h0, step, settings)
    rows.put(reached)
    model.progress.report("targets", before + len(starts), of, "requests")
    return Targets(
        starts.T.contiguous(),
        reached.delta.T.contiguous(),
        tuple(reached.loss.tolist()),
        tuple(reached.steps.tolist()),
    )


def _loss(
    objective: Objective,
    reading: Reading,
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
