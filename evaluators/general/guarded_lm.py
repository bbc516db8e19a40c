"""The harness's Hugging Face model with a count of rows that say nothing: non-finite or all-equal logits.

It also says where prompts end, for models that route by them, and lets an attachment rewrite prompts. A whole text, as
in rolling likelihood, has no prompt: nothing is routed or rewritten there.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from evaluators.general.quiet import quiet_harness
from sphere_core.locate.prompts import pad_left
from sphere_core.models import EditableModel

__all__ = ["Encodings", "GuardedHFLM", "RowCounts", "guarded_lm", "tokenizer_for_harness"]

_KEPT_TOKENS = 4_000_000


@dataclass
class RowCounts:
    """Rows that went through the model: all, those with a non-finite logit, those with a flat position.

    A position is flat where all logits are equal: every token is the argmax.
    """

    rows: int = 0
    nonfinite: int = 0
    flat: int = 0

    def see(self, logits: torch.Tensor) -> None:
        """Count the rows of `[b, l, v]` logits."""
        low, high = torch.aminmax(logits, dim=-1)
        bad = ~(torch.isfinite(low) & torch.isfinite(high))
        self.rows += logits.shape[0]
        self.nonfinite += int(bad.any(dim=1).sum())
        self.flat += int((low == high).any(dim=1).sum())


@dataclass
class Encodings:
    """Token ids of texts under one tokenizer, kept between checkpoints: they depend on nothing else.

    No texts are added beyond a limit of tokens (about 150 MB).
    """

    ids: dict[tuple[str, bool | None], list[int]] = field(default_factory=dict)
    tokens: int = 0

    def add(self, key: tuple[str, bool | None], ids: list[int]) -> None:
        """Keep the ids of a text, while there is room."""
        if self.tokens < _KEPT_TOKENS:
            self.ids[key] = ids
            self.tokens += len(ids)


class GuardedHFLM(HFLM):  # type: ignore[misc]
    """An `HFLM` of an editable model that counts, encodes no text twice and shows no progress bars."""

    def __init__(self, *, model: EditableModel, encodings: Encodings, **options: Any) -> None:
        # The harness lets requests of equal ids share a row, wherever their prompts end.
        super().__init__(logits_cache=not model.routes_by_prompt, **options)
        self._editable = model
        self._whole_texts = False
        self._ends: torch.Tensor | None = None
        self.counts = RowCounts()
        self._encodings = encodings

    def reset_counts(self) -> None:
        """Reset all counts."""
        self.counts = RowCounts()

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
        """Score continuations, as the harness does."""
        scores: list[Any] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scores

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
        """Score whole texts, as the harness does; nothing is routed by prompt."""
        self._whole_texts = True
        try:
            scores: list[Any] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
        finally:
            self._whole_texts = False
        return scores

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
        """Generate, as the harness does."""
        texts: list[Any] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        return texts

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **options: Any
    ) -> list[int]:
        """Encode a text, as the harness does."""
        if left_truncate_len or options:
            cut: list[int] = super().tok_encode(string, add_special_tokens, left_truncate_len, **options)
            return cut
        found = self._encodings.ids.get((string, add_special_tokens))
        if found is None:
            found = super().tok_encode(string, add_special_tokens)
            self._encodings.add((string, add_special_tokens), found)
        return list(found)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, **options: Any) -> list[Any]:
        # Whole texts come here with the bar switched on.
        if not self._whole_texts:
            requests = [(texts, self._read(context), continuation) for texts, context, continuation in requests]
            if self._editable.routes_by_prompt:
                return self._by_prompt(requests, **options)
        scores: list[Any] = super()._loglikelihood_tokens(requests, disable_tqdm=True, **options)
        return scores

    def _read(self, context: list[int]) -> list[int]:
        read = self._editable.rewritten(tuple(context), len(context))
        return context if len(read) == len(context) else list(read)

    def _by_prompt(self, requests: list[tuple[Any, list[int], list[int]]], **options: Any) -> list[Any]:
        """Score requests a batch at a time, each with the places where its prompts end.

        The batches are in the harness's own order, which its stable sort leaves as it is.
        """
        order = sorted(range(len(requests)), key=lambda place: _longest_first(requests[place]))
        scores: list[Any] = [None] * len(requests)
        for start in range(0, len(order), int(self.batch_size)):
            places = order[start : start + int(self.batch_size)]
            chunk = [requests[place] for place in places]
            kept = [self.max_length + 1 - len(continuation) for _, _, continuation in chunk]
            ends = [min(len(context), room) for (_, context, _), room in zip(chunk, kept, strict=True)]
            self._ends = torch.tensor(ends, device=self.device)
            try:
                found = super()._loglikelihood_tokens(chunk, disable_tqdm=True, **options)
            finally:
                self._ends = None
            for place, score in zip(places, found, strict=True):
                scores[place] = score
        return scores

    def _model_call(self, *args: Any, **options: Any) -> torch.Tensor:
        with self._editable.reading(ends=self._ends):
            logits: torch.Tensor = super()._model_call(*args, **options)
        self.counts.see(logits)
        self._editable.progress.sign()
        return logits

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any) -> torch.Tensor:
        watch = _FiniteSteps(context.shape[0], self.eot_token_id, self._editable.progress.sign)
        asked, mask = context, options.pop("attention_mask")
        rows = [tuple(row[seen.bool()].tolist()) for row, seen in zip(context, mask, strict=True)]
        read = [self._editable.rewritten(row, len(row)) for row in rows]
        if read != rows:
            context, mask = pad_left(read, fill=int(self.tokenizer.pad_token_id), device=context.device)
            max_length += context.shape[1] - asked.shape[1]
        whole = torch.full((len(rows),), context.shape[1], device=context.device)
        with self._editable.reading(starts=whole - mask.sum(dim=1), ends=whole):
            tokens: torch.Tensor = super()._model_generate(
                context, max_length, stop, attention_mask=mask, logits_processor=LogitsProcessorList([watch]), **options
            )
        self.counts.rows += context.shape[0]
        self.counts.nonfinite += watch.count(watch.bad)
        self.counts.flat += watch.count(watch.flat)
        # The harness cuts off as many tokens as it has given.
        return torch.cat([asked, tokens[:, context.shape[1] :]], dim=1)


def _longest_first(request: tuple[Any, list[int], list[int]]) -> tuple[int, tuple[int, ...]]:
    ids = (*request[1], *request[2])
    return -len(ids), ids


class _FiniteSteps(LogitsProcessor):
    """Remembers rows whose logits were ever non-finite or flat, and ends the former.

    A row of NaN would break sampling, and would continue to the length limit under greedy search.
    """

    def __init__(self, rows: int, end_token: int | None, sign: Callable[[], None] = lambda: None) -> None:
        """`sign` is called at every step."""
        self._sign = sign
        self.bad = torch.zeros(rows, dtype=torch.bool)
        self.flat = torch.zeros(rows, dtype=torch.bool)
        self._end = end_token if end_token is not None else 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self._sign()
        low, high = torch.aminmax(scores, dim=-1)
        bad = ~(torch.isfinite(low) & torch.isfinite(high))
        self.bad |= bad.cpu()
        self.flat |= (low == high).cpu()
        if bool(bad.any()):
            ending = torch.full_like(scores[0], torch.finfo(scores.dtype).min)
            ending[self._end] = 0
            scores = torch.where(bad[:, None], ending, scores)  # type: ignore[assignment]
        return scores

    @staticmethod
    def count(rows: torch.Tensor) -> int:
        return int(rows.sum())


def guarded_lm(
    model: EditableModel, tokenizer: PreTrainedTokenizerBase, encodings: Encodings, *, batch_size: int
) -> GuardedHFLM:
    """Wrap the live network; `tokenizer` must be one that the harness may change, `encodings` those of its texts.

    Likelihoods are taken in fp32 whatever the network's dtype: in half precision choices tie by rounding.
    """
    with quiet_harness():
        return GuardedHFLM(
            model=model,
            encodings=encodings,
            pretrained=model.network,
            tokenizer=tokenizer,
            batch_size=batch_size,
            softmax_dtype="float32",
        )


def tokenizer_for_harness(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy with a pad token from its own vocabulary.

    Without one the harness would add a token whose id the model has no embedding for. Padding is
    masked, so any known token will do.
    """
    own: PreTrainedTokenizerBase = copy.deepcopy(tokenizer)
    if own.pad_token_id is None:
        own.pad_token = own.eos_token or own.bos_token or own.convert_ids_to_tokens(0)
    return own
