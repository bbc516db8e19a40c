"""Token ids of (prompt, target) pairs, and where the target begins, for any tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from sphere_core.errors import InputError
from sphere_core.locate.prompts import shared_length, without_closing

__all__ = ["EncodedPair", "PairEncoder"]


@dataclass(frozen=True)
class EncodedPair:
    """A prompt continued by a target: `ids` of both together, the target's own from `boundary` on."""

    ids: tuple[int, ...]
    boundary: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: all ids but the last, which is only predicted."""
        return self.ids[:-1]

    @property
    def targets(self) -> tuple[int, ...]:
        """The ids of the target."""
        return self.ids[self.boundary :]


class PairEncoder:
    """Encodes pairs with one tokenizer and remembers them.

    The ids of a pair depend on the tokenizer and the text alone, never on weights: they stay valid for every
    checkpoint. The encoder holds its tokenizer, so that a caller can ask whether it still is the one in use.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._known: dict[tuple[str, str], EncodedPair] = {}

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Return the encodings of (prompt, target) pairs; a space joins the two.

        The boundary is the length of the prompt's own encoding where that begins the encoding of the whole,
        else the length of what both share: right for tokenizers with or without a first token, and for those
        that merge across the joint. Raises InputError for a target without a token of its own and for a
        prompt that gives no token to predict from.
        """
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if missing:
            prompts = list(dict.fromkeys(prompt for prompt, _ in missing))
            heads = dict(zip(prompts, self._token_ids(prompts), strict=True))
            wholes = self._token_ids([f"{prompt} {target}" for prompt, target in missing])
            for pair, whole in zip(missing, wholes, strict=True):
                self._known[pair] = _joined(pair, heads[pair[0]], whole)
        return [self._known[pair] for pair in pairs]

    def _token_ids(self, texts: list[str]) -> list[tuple[int, ...]]:
        encoded = self.tokenizer(texts, padding=False, truncation=False, return_special_tokens_mask=True)
        rows = zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
        return [without_closing(ids, mask) for ids, mask in rows]


def _joined(pair: tuple[str, str], head: tuple[int, ...], whole: tuple[int, ...]) -> EncodedPair:
    boundary = shared_length(head, whole)
    where = f"prompt {pair[0]!r}, target {pair[1]!r}"
    if boundary >= len(whole) or not pair[1].strip():
        raise InputError("the target has no token of its own", where=where, remedy="give a target with a text")
    if boundary == 0:
        raise InputError(
            "the prompt leaves no token to predict the target from",
            where=where,
            remedy="give a longer prompt, or a tokenizer that opens a text with a token",
        )
    return EncodedPair(whole, boundary)
