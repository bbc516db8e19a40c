"""Free generation: batches of prompts continued with a key-value cache until each has a reason to stop.

Prompts are padded on the left under an explicit mask, with positions counted from the first real token, so that a
continuation does not depend on what else is in its batch, nor on the tokenizer's own padding side.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evaluators.edit_quality.cached_batch import CachedBatch
from evaluators.edit_quality.settings import Stop
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import pad_left, text_ids
from sphere_core.models import EditableModel

__all__ = ["Continuation", "Decoding", "continue_texts"]

_SENTENCE_ENDS = ".!?"


@dataclass(frozen=True)
class Decoding:
    """How prompts are continued.

    `tokens` new ones at most, or tokens in all with the prompt's (`total`). `stops`: the token that ends a text, a line
    break, the end of a sentence (one of `.!?`). `top_k` None is greedy; otherwise the next token is drawn from the
    `top_k` most likely ones, by a generator that `seed` and the prompt's text alone determine.
    """

    tokens: int
    stops: frozenset[Stop]
    total: bool = False
    top_k: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Continuation:
    """What a prompt was continued by, up to where it stopped.

    `stopped` is the reason: a stop of the decoding, `length`, or `nonfinite`. `tied`: at some step the largest logit
    was shared, so that the choice was arbitrary.
    """

    text: str
    ids: tuple[int, ...]
    stopped: str
    tied: bool

    @property
    def finite(self) -> bool:
        """Whether all logits behind it were."""
        return self.stopped != "nonfinite"


def continue_texts(
    model: EditableModel, texts: Sequence[str], decoding: Decoding, *, token_budget: int
) -> list[Continuation]:
    """Continue texts with what the model holds now; equal texts are continued once.

    An attachment that rewrites a prompt adds to the tokens that are read, not to those that are counted. Batches hold
    at most `token_budget` rows x tokens of prompt and continuation. A row whose logits are not finite ends at once.
    Raises InputError for a text without a token, and for one that leaves no room among the model's positions.
    """
    rows = {text: text_ids(model.tokenizer, text) for text in dict.fromkeys(texts)}
    for text, ids in rows.items():
        _require_room(model, text, ids, decoding)
    vocabulary = _Vocabulary(model, decoding.stops)
    found: dict[str, Continuation] = {}
    for batch in _batches(rows, decoding, token_budget):
        encoded = [rows[text] for text in batch]
        found.update(zip(batch, _continue_batch(model, batch, encoded, decoding, vocabulary), strict=True))
        model.progress.report("generation", len(found), len(rows), "texts")
    return [found[text] for text in texts]


def _batches(rows: dict[str, tuple[int, ...]], decoding: Decoding, token_budget: int) -> Iterator[list[str]]:
    """Cut texts, longest first; with a total length only equal lengths meet, since all stop at the same position."""
    batch: list[str] = []
    for text in sorted(rows, key=lambda text: (-len(rows[text]), rows[text])):
        if batch:
            longest = len(rows[batch[0]])
            whole = decoding.tokens if decoding.total else longest + decoding.tokens
            if (len(batch) + 1) * whole > token_budget or (decoding.total and len(rows[text]) != longest):
                yield batch
                batch = []
        batch.append(text)
    if batch:
        yield batch


@torch.no_grad()
def _continue_batch(
    model: EditableModel, texts: list[str], rows: list[tuple[int, ...]], decoding: Decoding, vocabulary: "_Vocabulary"
) -> list[Continuation]:
    steps = decoding.tokens - len(rows[0]) if decoding.total else decoding.tokens
    draws = _draws(texts, decoding, steps)
    state = [_Row() for _ in rows]
    read = [model.rewritten(row, len(row)) for row in rows]
    ids, mask = pad_left(read, fill=0, device=model.device)
    whole = torch.full((len(rows),), ids.shape[1], device=ids.device)
    batch = CachedBatch(model, ids, mask)
    # Rows that have stopped leave once they are half; where an attachment routes rows, it knows them by their places.
    leave = model.attachment is None
    at_work = np.arange(len(rows))
    with model.reading(starts=whole - mask.sum(dim=1), ends=whole):
        for step in range(steps):
            drawn = None if draws is None else draws[at_work, step]
            chosen = _take([state[row] for row in at_work], batch.logits(), decoding.top_k, drawn, vocabulary)
            model.progress.sign()
            left = [place for place, row in enumerate(at_work) if state[row].stopped is None]
            if not left:
                break
            batch.append(chosen)
            if leave and 2 * len(left) <= len(at_work) and batch.keep(left):
                at_work = at_work[left]
    return [row.continuation(vocabulary) for row in state]


def _take(
    state: list["_Row"], logits: torch.Tensor, top_k: int | None, draw: np.ndarray | None, vocabulary: "_Vocabulary"
) -> torch.Tensor:
    """Choose a token a row from `[m, V]` logits, let the rows take them, and return them `[m]`."""
    finite = torch.isfinite(logits).all(dim=1)
    shared = (logits == logits.amax(dim=1, keepdim=True)).sum(dim=1) > 1
    chosen = _choose(logits, top_k, draw)
    told = zip(state, chosen.tolist(), finite.tolist(), shared.tolist(), strict=True)
    for row, token, is_finite, is_tied in told:
        row.take(token, is_finite, is_tied, vocabulary)
    return chosen


class _Row:
    """One prompt on its way: the tokens chosen so far, and why it has stopped."""

    def __init__(self) -> None:
        self.stopped: str | None = None
        self._ids: list[int] = []
        self._tied = False

    def take(self, token: int, finite: bool, tied: bool, vocabulary: "_Vocabulary") -> None:
        if self.stopped is not None:
            return
        if not finite:
            self.stopped = "nonfinite"
            return
        self._tied = self._tied or tied
        self.stopped = vocabulary.stop_at(token)
        if self.stopped != "eos":
            self._ids.append(token)

    def continuation(self, vocabulary: "_Vocabulary") -> Continuation:
        stopped = self.stopped or "length"
        return Continuation(vocabulary.text(self._ids, stopped), tuple(self._ids), stopped, self._tied)


class _Vocabulary:
    """What tokens say, and which of them stop a text."""

    def __init__(self, model: EditableModel, stops: frozenset[Stop]) -> None:
        self._tokenizer = model.tokenizer
        self._stops = stops
        self._ending = _ending_ids(model)
        self._known: dict[int, str | None] = {}

    def stop_at(self, token: int) -> str | None:
        """Return why a text stops at a token, or None if it continues."""
        if token not in self._known:
            self._known[token] = self._stop_at(token)
        return self._known[token]

    def text(self, ids: list[int], stopped: str) -> str:
        """Return the text of a continuation, cut where it stopped."""
        text = str(self._tokenizer.decode(ids, skip_special_tokens=True))
        ends = {"newline": "\n", "sentence": _SENTENCE_ENDS}.get(stopped, "")
        # What follows the stop in the same token is cut too; before it there is none, or it had stopped earlier.
        places = [text.index(end) for end in ends if end in text]
        return text[: min(places)] if places else text

    def _stop_at(self, token: int) -> str | None:
        if "eos" in self._stops and token in self._ending:
            return "eos"
        text = str(self._tokenizer.decode([token]))
        if "newline" in self._stops and "\n" in text:
            return "newline"
        return "sentence" if "sentence" in self._stops and any(end in text for end in _SENTENCE_ENDS) else None


def _ending_ids(model: EditableModel) -> frozenset[int]:
    """Return the tokens that end a text, by the tokenizer and by the model's own generation settings."""
    config = getattr(model.network, "generation_config", None)
    named = [model.tokenizer.eos_token_id, getattr(config, "eos_token_id", None)]
    return frozenset(
        int(token) for value in named if value is not None for token in (value if isinstance(value, list) else [value])
    )


def _choose(logits: torch.Tensor, top_k: int | None, draw: np.ndarray | None) -> torch.Tensor:
    """Return a token a row `[m]` on CPU: the argmax, or the one among the `top_k` that the draw in [0, 1) falls on."""
    if top_k is None or draw is None:
        return logits.argmax(dim=1).cpu()
    top = logits.nan_to_num(0.0).topk(min(top_k, logits.shape[1]), dim=1)
    shares = top.values.double().softmax(dim=1).cumsum(dim=1).cpu()
    place = (torch.from_numpy(draw)[:, None] >= shares).sum(dim=1).clamp(max=shares.shape[1] - 1)
    return top.indices.cpu().gather(1, place[:, None])[:, 0]


def _draws(texts: Sequence[str], decoding: Decoding, steps: int) -> np.ndarray | None:
    """Return uniform draws `[m, steps]`, seeded per row by its text; None for greedy decoding."""
    if decoding.top_k is None:
        return None
    seeds = [hashlib.sha256(f"{decoding.seed}:{text}".encode()).digest() for text in texts]
    return np.stack([np.random.default_rng(int.from_bytes(seed[:8])).random(steps) for seed in seeds])


def _require_room(model: EditableModel, text: str, ids: tuple[int, ...], decoding: Decoding) -> None:
    where = f"prompt {text[:60]!r}"
    if not ids:
        raise InputError("the prompt has no token to continue from", where=where, remedy="give a longer prompt")
    whole = decoding.tokens if decoding.total else len(ids) + decoding.tokens
    added = len(model.rewritten(ids, len(ids))) - len(ids)
    room = getattr(model.network.config.get_text_config(), "max_position_embeddings", None)
    if room is not None and whole + added > room:
        raise InputError(
            f"prompt and continuation take {whole + added} tokens; the model has {room} positions",
            where=where,
            remedy="request fewer tokens, or use a model with more positions",
        )
    if whole <= len(ids):
        raise InputError(
            f"the prompt alone has {len(ids)} tokens of {whole}", where=where, remedy="request more tokens in all"
        )
