"""Edits as sentences, in a table of token ids: rows of one width, the longest sentence's."""

from collections.abc import Sequence

import torch
from torch import nn

from sphere_core.locate.prompts import opening_tokens, text_ids
from sphere_core.models.attachments import Attachment
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["NO_TOKEN", "edit_sentence", "sentence_of", "with_sentences"]

# What rows of the table are filled up with.
NO_TOKEN = -1


def sentence_of(request: EditRequest) -> str:
    """Return prompt and new target as a sentence with a line break."""
    return f"{request.question} {request.target_new}.\n"


def edit_sentence(model: EditableModel, request: EditRequest) -> torch.Tensor:
    """Return the token ids of a request's sentence, without those that open every text."""
    opening = len(opening_tokens(model.tokenizer))
    return torch.tensor(text_ids(model.tokenizer, sentence_of(request))[opening:])


def with_sentences(
    before: Attachment | None, sentences: Sequence[torch.Tensor], device: torch.device
) -> tuple[Attachment | None, torch.Tensor]:
    """Return a table widened to the longest of its sentences and the new ones, and the new ones as its rows."""
    rows = [*sentences] if before is None else [*before.tensors["sentences"].cpu(), *sentences]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NO_TOKEN).to(device)
    added = padded[len(rows) - len(sentences) :]
    if before is None:
        return None, added
    kept = {**before.tensors, "sentences": padded[: len(rows) - len(sentences)]}
    return Attachment(before.kind, kept, before.scalars), added
