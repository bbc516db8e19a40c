"""Prompts as token ids, with the subject found by character offsets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from sphere_core.errors import InputError
from sphere_core.requests import EditRequest

__all__ = ["Contexts", "SubjectPrompt", "encode_prompt", "in_context", "pad_right", "target_ids"]

# Template groups: each template holds '{}' where the prompt goes. The first group is the bare prompt.
Contexts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class SubjectPrompt:
    """A prompt's token ids and the index of the subject's last token."""

    ids: tuple[int, ...]
    subject_last: int


def in_context(context: str, prompt: str) -> str:
    """Put a prompt (with its own '{}') into a context template."""
    return context.replace("{}", prompt, 1)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, subject: str) -> SubjectPrompt:
    """Encode a prompt with the subject in place of '{}' and find the subject's last token.

    The token is the one that covers the subject's last character, by the tokenizer's offsets; special
    tokens are whatever the tokenizer adds by itself. Raises InputError where no token covers it.
    """
    start = prompt.index("{}")
    last_character = start + len(subject) - 1
    text = prompt.replace("{}", subject, 1)
    encoded = tokenizer(text, return_offsets_mapping=True)
    spans = encoded["offset_mapping"]
    covering = [index for index, (begin, end) in enumerate(spans) if begin <= last_character < end]
    if not covering:
        raise InputError(
            f"no token covers the end of the subject {subject!r}",
            where=f"prompt {text!r}",
            remedy="the tokenizer drops these characters; give the subject as it is spelled in the prompt",
        )
    return SubjectPrompt(tuple(encoded["input_ids"]), covering[-1])


def target_ids(tokenizer: PreTrainedTokenizerBase, request: EditRequest) -> tuple[int, ...]:
    """Return the token ids of ' ' + the new target, without special tokens; raises InputError where it is empty."""
    ids = tokenizer(" " + request.target_new, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError("the target has no token", where=f"case {request.case_id}, field target_new")
    return tuple(ids)


def pad_right(rows: Sequence[Sequence[int]], *, fill: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask `[m, longest]`, padded on the right whatever the tokenizer's own side is."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = 1
    return ids.to(device), mask.to(device)
