"""Token ids of (prompt, target) pairs, and where the target begins, for any tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from transformers import PreTrainedTokenizerBase

from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import shared_length, without_closing
from sphere_core.requests import Probe

__all__ = ["EncodedPair", "Encoder", "Form", "Pair", "PairEncoder", "Readable", "Reading"]

Form = Literal["whole", "tokens", "locality"]


class Pair(NamedTuple):
    """A prompt and a target to score after it.

    `form` says how the two are put before the model: `whole` in one text; `tokens` and `locality` token by token,
    as the released zsRE evaluations do.
    """

    prompt: str
    target: str
    form: Form = "whole"


class Reading(NamedTuple):
    """One text that the model reads, and the ids scored at its positions `first`, `first` + 1, ...

    Its prompt is `inputs[:prompt_end]`: what a method that routes by the prompt looks at.
    """

    inputs: tuple[int, ...]
    first: int
    targets: tuple[int, ...]
    prompt_end: int


class Readable(Protocol):
    """A pair as token ids."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The texts the model reads for it, with what is asked in each."""
        ...


class Encoder(Protocol):
    """Turns pairs into token ids under one protocol, with one tokenizer."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer in use."""
        ...

    def form(self, probe: Probe) -> Form:
        """Say how a probe is put before the model."""
        ...

    def encode(self, pairs: Sequence[Pair]) -> Sequence[Readable]:
        """Return the pairs as token ids; raises InputError for one that cannot be asked."""
        ...


@dataclass(frozen=True)
class EncodedPair:
    """A prompt continued by a target: `ids` of both together, the target's own from `boundary` on.

    It has one reading: all ids but the last, which is only predicted.
    """

    ids: tuple[int, ...]
    boundary: int
    readings: tuple[Reading, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once, not at every checkpoint.
        object.__setattr__(self, "readings", (Reading(self.ids[:-1], self.boundary - 1, self.targets, self.boundary),))

    @property
    def targets(self) -> tuple[int, ...]:
        """The ids of the target."""
        return self.ids[self.boundary :]


class PairEncoder:
    """Encodes pairs with one tokenizer and remembers them: the protocol `correct`.

    The ids of a pair depend on the tokenizer and the text alone, never on weights: they stay valid for every
    checkpoint. The encoder holds its tokenizer, so that a caller can ask whether it still is the one in use.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._known: dict[Pair, EncodedPair] = {}

    def form(self, probe: Probe) -> Form:
        """Every probe is asked in one text: what the model reads before a token does not depend on what follows."""
        return "whole"

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """Return the encodings of (prompt, target) pairs; a space joins the two.

        The boundary is the length of the prompt's own encoding where that begins the encoding of the whole,
        else the length of what both share: right for tokenizers with or without a first token, and for those
        that merge across the joint. Raises InputError for a target without a token of its own and for a
        prompt that gives no token to predict from.
        """
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if missing:
            prompts = list(dict.fromkeys(pair.prompt for pair in missing))
            heads = dict(zip(prompts, self._token_ids(prompts), strict=True))
            wholes = self._token_ids([f"{pair.prompt} {pair.target}" for pair in missing])
            for pair, whole in zip(missing, wholes, strict=True):
                self._known[pair] = _joined(pair, heads[pair.prompt], whole)
        return [self._known[pair] for pair in pairs]

    def _token_ids(self, texts: list[str]) -> list[tuple[int, ...]]:
        encoded = self.tokenizer(texts, padding=False, truncation=False, return_special_tokens_mask=True)
        rows = zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
        return [without_closing(ids, mask) for ids, mask in rows]


def _joined(pair: Pair, head: tuple[int, ...], whole: tuple[int, ...]) -> EncodedPair:
    boundary = shared_length(head, whole)
    where = f"prompt {pair.prompt!r}, target {pair.target!r}"
    if boundary >= len(whole) or not pair.target.strip():
        raise InputError("the target has no token of its own", where=where, remedy="give a target with a text")
    if boundary == 0:
        raise InputError(
            "the prompt leaves no token to predict the target from",
            where=where,
            remedy="give a longer prompt, or a tokenizer that opens a text with a token",
        )
    return EncodedPair(whole, boundary)
