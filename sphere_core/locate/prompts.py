"""Prompts as token ids, with the subject found by character offsets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest

__all__ = [
    "SubjectPrompt",
    "encode_prompt",
    "in_context",
    "opening_tokens",
    "pad_left",
    "pad_right",
    "shared_length",
    "target_ids",
    "text_ids",
    "without_closing",
]


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

    The token is the one that covers the subject's last character, by the tokenizer's offsets. Special tokens that the
    tokenizer puts before a text stay; those it puts after are dropped. Raises InputError if no token covers it.
    """
    start = prompt.index("{}")
    last_character = start + len(subject) - 1
    text = prompt.replace("{}", subject, 1)
    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    spans = encoded["offset_mapping"]
    covering = [index for index, (begin, end) in enumerate(spans) if begin <= last_character < end]
    if not covering:
        raise InputError(
            f"no token covers the end of the subject {subject!r}",
            where=f"prompt {text!r}",
            remedy="the tokenizer drops these characters; give the subject as it is spelled in the prompt",
        )
    return SubjectPrompt(without_closing(encoded["input_ids"], encoded["special_tokens_mask"]), covering[-1])


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Return a text's token ids, with the special tokens that open it and without those that close it."""
    encoded = tokenizer(text, return_special_tokens_mask=True)
    return without_closing(encoded["input_ids"], encoded["special_tokens_mask"])


def opening_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the special tokens that the tokenizer puts before a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    opening = []
    for token, special in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
        if not special:
            break
        opening.append(str(tokenizer.convert_ids_to_tokens(token)))
    return opening


def without_closing(ids: Sequence[int], special: Sequence[int]) -> tuple[int, ...]:
    """Drop the special tokens at the end: a tokenizer may close a text, and what is closed cannot be continued."""
    end = len(ids)
    while end and special[end - 1]:
        end -= 1
    return tuple(ids[:end]) if end else tuple(ids)


def shared_length(left: Iterable[int], right: Iterable[int]) -> int:
    """Return how many leading ids two sequences share."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def target_ids(tokenizer: PreTrainedTokenizerBase, request: EditRequest, *, space: bool = True) -> tuple[int, ...]:
    """Return the ids of the new target as it continues the prompt; raises InputError if it has none.

    They are what the encoding of prompt, space and target has after the prompt's own ids: the tokens that are scored
    later, also for tokenizers that mark the start of a text. Where a token spans the joint, the target is
    encoded by itself. Without `space` it is encoded by itself, as it is written: what NSE's release optimises.
    """
    if not space:
        return _some(tuple(tokenizer(request.target_new, add_special_tokens=False)["input_ids"]), request)
    head = text_ids(tokenizer, request.question)
    whole = text_ids(tokenizer, f"{request.question} {request.target_new}")
    if shared_length(head, whole) == len(head):
        ids = whole[len(head) :]
    else:
        ids = tuple(tokenizer(" " + request.target_new, add_special_tokens=False)["input_ids"])
    return _some(ids, request)


def _some(ids: tuple[int, ...], request: EditRequest) -> tuple[int, ...]:
    if not ids:
        raise InputError("the target has no token", where=f"case {request.case_id}, field target_new")
    return ids


def pad_left(rows: Sequence[Sequence[int]], *, fill: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask `[m, longest]`, padded on the left regardless of the tokenizer's own side."""
    turned, mask = pad_right([row[::-1] for row in rows], fill=fill, device=device)
    return turned.flip(1), mask.flip(1)


def pad_right(rows: Sequence[Sequence[int]], *, fill: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask `[m, longest]`, padded on the right regardless of the tokenizer's own side."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = 1
    return ids.to(device), mask.to(device)
