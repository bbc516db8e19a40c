"""Training of SERAC's two models on a train split, once per tokenizer, before any sweep.

The encoder e is trained so that g = exp(-|e(q) - e(x)|^2) says whether a query q lies in the scope of an edit with
prompt x: binary cross entropy, the mean over pairs in scope (a paraphrase with its own edit) plus the mean over pairs
out of it (a neighborhood prompt with its edit, a paraphrase with every other edit of the batch). The counterfactual
model h is trained on the mean NLL of an edit's target behind the edit as a sentence and its prompt or a paraphrase.

SERAC (arXiv 2206.06520) sums both losses with weights; e and h share no parameter and Adam does not see a loss's scale,
so that they are trained one after the other here. It has one pair out of scope per edit, 100,000 steps at a rate of
1e-5, and stops by validation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sphere_core.editors.memory.companions import ScopeEncoder
from sphere_core.editors.memory.sentences import edit_sentence
from sphere_core.editors.memory.serac import scope
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import opening_tokens, pad_right, target_ids, text_ids
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest
from sphere_core.tuning.texts import step_places

__all__ = ["SeracRates", "Trainable", "counterfactual_loss", "scope_loss", "scope_shares", "trainable", "trained"]

Report = Callable[[int, float], None]
# Below this 1 - g counts as this: two texts of equal features have no finite loss.
_LEAST = 1e-6


@dataclass(frozen=True)
class SeracRates:
    """Steps of a training and edits per step, Adam's rate, and the seed of the order."""

    steps: int
    batch_size: int
    lr: float
    seed: int


@dataclass(frozen=True)
class Trainable:
    """An edit with a query in its scope, and prompts outside of it."""

    request: EditRequest
    within: tuple[str, ...]
    outside: tuple[str, ...]


def trainable(requests: Sequence[EditRequest]) -> list[Trainable]:
    """Return the requests that have a paraphrase and a neighborhood prompt; raises InputError if there are not two."""
    found = []
    for request in requests:
        within = tuple(probe.prompt for probe in request.probes if probe.role == "paraphrase")
        outside = tuple(probe.prompt for probe in request.probes if probe.role == "neighborhood")
        if within and outside:
            found.append(Trainable(request, within, outside))
    if len(found) < 2:
        raise InputError(
            "SERAC is trained on records with paraphrases and neighborhood prompts, and fewer than two have both",
            where="training data",
            remedy="give a train split of CounterFact's or zsRE's form",
        )
    return found


def trained(
    parameters: Iterator[nn.Parameter], loss_of: Callable[[int], torch.Tensor], rates: SeracRates, report: Report
) -> None:
    """Lower a loss by Adam in place; `loss_of` takes the step, from 1, and `report` each step's loss after it."""
    moving = list(parameters)
    for parameter in moving:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(moving, lr=rates.lr)
    for step in range(1, rates.steps + 1):
        optimiser.zero_grad()
        loss = loss_of(step)
        loss.backward()
        optimiser.step()
        report(step, float(loss.detach()))
    for parameter in moving:
        parameter.requires_grad_(False)


def scope_loss(encoder: ScopeEncoder, edits: Sequence[Trainable], rates: SeracRates, step: int) -> torch.Tensor:
    """Return the loss of e on a step's edits; queries take turns from step to step."""
    chosen = [edits[place] for place in step_places(len(edits), rates.seed, step, rates.batch_size)]
    prompts = [edit.request.question for edit in chosen]
    within = [edit.within[step % len(edit.within)] for edit in chosen]
    outside = [edit.outside[step % len(edit.outside)] for edit in chosen]
    edited, near, far = encoder.features([*prompts, *within, *outside]).chunk(3)
    values, count = scope(near, edited), len(chosen)
    # Of one subject two edits may ask nearly the same.
    other = torch.tensor(
        [[a.request.subject != b.request.subject for b in chosen] for a in chosen], device=values.device
    )
    own = torch.arange(count, device=values.device)
    negatives = torch.cat([scope(far, edited)[own, own], values[other]])
    # -log g is the distance itself.
    inside = (near - edited).square().sum(dim=1)
    return inside.mean() - (1 - negatives).clamp_min(_LEAST).log().mean()


def counterfactual_loss(model: EditableModel, edits: Sequence[Trainable], rates: SeracRates, step: int) -> torch.Tensor:
    """Return the loss of h on a step's edits: the mean NLL of their targets behind sentence and query."""
    chosen = [edits[place] for place in step_places(len(edits), rates.seed, step, rates.batch_size)]
    opening = len(opening_tokens(model.tokenizer))
    rows, picked = [], []
    for line, edit in enumerate(chosen):
        queries = (edit.request.question, *edit.within)
        query = text_ids(model.tokenizer, queries[step % len(queries)])
        target = target_ids(model.tokenizer, edit.request)
        prompt = [*query[:opening], *edit_sentence(model, edit.request).tolist(), *query[opening:]]
        picked += [(line, len(prompt) - 1 + k, token, 1 / len(target)) for k, token in enumerate(target)]
        rows.append([*prompt, *target[:-1]])
    ids, mask = pad_right(rows, fill=0, device=model.device)
    lines, places, tokens, weights = zip(*picked, strict=True)
    hidden = model.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    logs = model.normed_logits(hidden[list(lines), list(places)]).log_softmax(dim=-1)
    chosen_logs = logs.gather(1, torch.tensor(tokens, device=logs.device)[:, None]).squeeze(1)
    return -(chosen_logs * torch.tensor(weights, device=logs.device)).sum() / len(chosen)


@torch.no_grad()
def scope_shares(encoder: ScopeEncoder, edits: Sequence[Trainable], threshold: float) -> tuple[float, float]:
    """Return the shares of paraphrases that lie in the scope of their own edit first of all, and of neighborhood
    prompts that lie in the scope of any."""
    edited = encoder.embedded([edit.request.question for edit in edits])
    hits, count = 0, 0
    for place, edit in enumerate(edits):
        values, best = scope(encoder.embedded(edit.within), edited).max(dim=1)
        hits += int(((values > threshold) & (best == place)).sum())
        count += len(edit.within)
    far = encoder.embedded([prompt for edit in edits for prompt in edit.outside])
    routed = scope(far, edited).amax(dim=1) > threshold
    return hits / count, float(routed.float().mean())
