"""What a batch costs earlier edits: STABLE's three measures (arXiv 2510.16089) over anchors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from sphere_core.locate.prompts import pad_right, target_ids, text_ids
from sphere_core.locate.supervision import supervise
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["Answers", "Measure", "answers", "cost", "divergence"]

Measure = Literal["bits", "exact_match", "kl"]


@dataclass(frozen=True)
class Answers:
    """Per anchor: bits per target token, target tokens, and whether every target token is the most probable one."""

    bits: torch.Tensor
    tokens: torch.Tensor
    exact: torch.Tensor


def answers(model: EditableModel, requests: Sequence[EditRequest]) -> Answers:
    """Return how the model answers the anchors now."""
    supervision = supervise(model, requests)
    with model.clock.stage("gate"), torch.no_grad():
        nll, right = supervision.token_scores(model)
    rows, count = supervision.rows.to(nll.device), len(requests)
    tokens = torch.zeros(count, device=nll.device).index_add_(0, rows, torch.ones_like(nll))
    bits = torch.zeros(count, device=nll.device).index_add_(0, rows, nll / math.log(2)) / tokens
    hits = torch.zeros(count, device=nll.device).index_add_(0, rows, right.to(nll))
    return Answers(bits.double(), tokens.double(), hits == tokens)


def cost(before: Answers, after: Answers, measure: Literal["bits", "exact_match"]) -> float:
    """Return what the anchors have lost; infinite where the model no longer answers with numbers."""
    rise = after.bits - before.bits
    if not bool(torch.isfinite(rise).all()):
        return math.inf
    if measure == "exact_match":
        return float(before.exact.double().mean() - after.exact.double().mean())
    return float((rise.clamp_min(0) * before.tokens).sum() / before.tokens.sum())


def divergence(model: EditableModel, requests: Sequence[EditRequest], put_back: Callable[[], None]) -> float:
    """Return the bits per token by which the model now finds its own answers likelier than after `put_back`.

    An answer is greedy and as long as the anchor's target. Infinite where the model does not answer with numbers.
    """
    prompts = [text_ids(model.tokenizer, request.question) for request in requests]
    lengths = [len(target_ids(model.tokenizer, request)) for request in requests]
    rows = [list(prompt) for prompt in prompts]
    with model.clock.stage("gate"), torch.no_grad():
        for step in range(max(lengths)):
            open_rows = [place for place, length in enumerate(lengths) if step < length]
            places = [len(rows[place]) - 1 for place in open_rows]
            logs = _logs(model, [rows[i] for i in open_rows], places, [len(prompts[i]) for i in open_rows])
            for place, token in zip(open_rows, logs.argmax(dim=-1).tolist(), strict=True):
                rows[place].append(token)
        now = _answer_log(model, rows, prompts)
        put_back()
        gain = (now - _answer_log(model, rows, prompts)) / math.log(2)
    return float(gain) / sum(lengths) if bool(torch.isfinite(gain)) else math.inf


def _answer_log(model: EditableModel, rows: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the sum of the log-probabilities of what follows the prompts, nats, float64."""
    picked = [
        (row, place - 1, ids[place]) for row, ids in enumerate(rows) for place in range(len(prompts[row]), len(ids))
    ]
    index, places, tokens = (list(column) for column in zip(*picked, strict=True))
    logs = _logs(model, rows, places, [len(prompt) for prompt in prompts], index)
    return logs.double().gather(1, torch.tensor(tokens, device=logs.device)[:, None]).sum()


def _logs(
    model: EditableModel,
    rows: Sequence[Sequence[int]],
    places: Sequence[int],
    ends: Sequence[int],
    index: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return the log-probabilities that follow `places` of the rows `index`, by default one place of each row."""
    ids, mask = pad_right(rows, fill=0, device=model.device)
    with model.reading(ends=torch.tensor(ends, device=ids.device)):
        hidden = model.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    chosen = hidden[torch.tensor(index or range(len(rows)), device=hidden.device), places]
    return model.normed_logits(chosen).log_softmax(dim=-1)
