"""Texts to train on as token ids, and which of them a step reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from sphere_core.locate.prompts import pad_right, shared_length, text_ids
from sphere_core.locate.supervision import Supervision
from sphere_core.tuning.text import TuningText

__all__ = ["EncodedText", "encode_text", "epoch_order", "step_places", "supervise_texts"]

_PLACES = 2**63


@dataclass(frozen=True)
class EncodedText:
    """Token ids, the place of the first that is predicted, never 0, and whether those before it are a prompt."""

    ids: tuple[int, ...]
    first: int
    has_prompt: bool

    @property
    def predicted(self) -> int:
        """How many tokens are predicted."""
        return max(0, len(self.ids) - self.first)


def encode_text(tokenizer: PreTrainedTokenizerBase, text: TuningText, max_length: int) -> EncodedText:
    """Encode a text, cut at `max_length` tokens; special tokens that close a text are left out.

    Without a prompt all tokens but the first, and but special ones that open a text, are predicted. Where a token
    spans the joint of prompt and answer, the answer begins with it.
    """
    ids = text_ids(tokenizer, text.whole)
    head = text_ids(tokenizer, text.prompt) if text.prompt else _opening(tokenizer, ids)
    return EncodedText(ids[:max_length], max(1, shared_length(head, ids)), bool(text.prompt))


def _opening(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Sequence[int]:
    special = set(tokenizer.all_special_ids)
    count = next((place for place, token in enumerate(ids) if token not in special), len(ids))
    return ids[:count]


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """Return the order of `count` texts in an epoch: of `seed` and `epoch` alone, so that a resumed run needs no state
    of a generator."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % _PLACES)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def step_places(count: int, seed: int, step: int, batch_size: int) -> list[int]:
    """Return the places of the texts that a step reads, `step` from 1; a batch may span two epochs."""
    found: list[int] = []
    begin = (step - 1) * batch_size
    for epoch in range(begin // count, (begin + batch_size - 1) // count + 1):
        low, high = max(begin - epoch * count, 0), min(begin + batch_size - epoch * count, count)
        found += epoch_order(count, seed, epoch)[low:high]
    return found


def supervise_texts(texts: Sequence[EncodedText], device: torch.device) -> Supervision:
    """Return the rows of some texts and every token to predict, each with the weight 1.

    Rows without prompts are whole texts: nothing is routed by prompt there.
    """
    ids, mask = pad_right([text.ids for text in texts], fill=0, device=device)
    entries = [
        (row, place - 1, text.ids[place])
        for row, text in enumerate(texts)
        for place in range(text.first, len(text.ids))
    ]
    rows, positions, targets = (torch.tensor(column, device=ids.device) for column in zip(*entries, strict=True))
    ends = None
    if all(text.has_prompt for text in texts):
        ends = torch.tensor([text.first for text in texts], device=ids.device)
    return Supervision(ids, mask, rows, positions, targets, torch.ones(len(targets), device=ids.device), ends)
