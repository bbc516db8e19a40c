"""Teacher-forced supervision for gradient editors: the bare prompt with its target, and the positions that predict
it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from sphere_core.locate.prompts import pad_right, target_ids, text_ids
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["Supervision", "answered_ids", "supervise"]


@dataclass(frozen=True)
class Supervision:
    """Rows `[n, T]` of prompt and target ids, and one entry per target token: row, position that predicts it, id,
    weight.

    The weight is 1 / (target tokens of the request), so that the sum over a request is its mean NLL. Special tokens
    the tokenizer adds are part of the prompt; neither they nor padding are ever predicted. `ends` `[n]`: where each
    row's prompt ends; None: the rows are whole texts.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    ends: torch.Tensor | None

    def loss(self, model: EditableModel) -> torch.Tensor:
        """Return the mean over requests of the mean NLL of their target tokens, fp32, with gradient."""
        logs = self._log_probabilities(model)
        chosen = logs.gather(1, self.targets.to(logs.device)[:, None]).squeeze(1)
        total: torch.Tensor = -(chosen * self.weights.to(logs.device)).sum() / len(self.ids)
        return total

    def token_loss(self, model: EditableModel) -> torch.Tensor:
        """Return the sum over all target tokens of their NLL, fp32, with gradient."""
        nll, _ = self.token_scores(model)
        return nll.sum()

    def token_scores(self, model: EditableModel) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each target token's NLL in nats (fp32), and whether it is the most probable token there."""
        logs = self._log_probabilities(model)
        targets = self.targets.to(logs.device)
        return -logs.gather(1, targets[:, None]).squeeze(1), logs.argmax(dim=-1) == targets

    def _log_probabilities(self, model: EditableModel) -> torch.Tensor:
        """Return log-probabilities over the vocabulary at every position that predicts a target token."""
        with model.reading(ends=self.ends):
            hidden = model.decoder(input_ids=self.ids, attention_mask=self.mask, use_cache=False).last_hidden_state
        picked = hidden[self.rows.to(hidden.device), self.positions.to(hidden.device)]
        return model.normed_logits(picked).log_softmax(dim=-1)


def answered_ids(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> list[int]:
    """Return the ids of the bare prompt followed by its new target, special tokens of the prompt included."""
    return [*text_ids(tokenizer, request.question), *target_ids(tokenizer, request)]


def supervise(model: EditableModel, requests: Sequence[EditRequest]) -> Supervision:
    """Encode requests for teacher forcing: target ids follow the prompt's ids, as the model will see them."""
    rows, entries, ends = [], [], []
    for index, request in enumerate(requests):
        prompt = text_ids(model.tokenizer, request.question)
        target = target_ids(model.tokenizer, request)
        entries += [(index, len(prompt) - 1 + k, token, 1 / len(target)) for k, token in enumerate(target)]
        rows.append([*prompt, *target[:-1]])
        ends.append(len(prompt))
    ids, mask = pad_right(rows, fill=0, device=model.device)
    columns = list(zip(*entries, strict=True))
    places = [torch.tensor(column, device=ids.device) for column in columns[:3]]
    weights = torch.tensor(columns[3], device=ids.device)
    return Supervision(ids, mask, places[0], places[1], places[2], weights, torch.tensor(ends, device=ids.device))
