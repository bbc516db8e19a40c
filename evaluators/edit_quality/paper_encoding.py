"""Token ids of (prompt, target) pairs as three released evaluations form them, tokenizer faults included.

The published tables of MEMIT (arXiv 2210.07229), AlphaEdit (arXiv 2410.02355) and SPHERE (arXiv 2510.01172) come
from one lineage of scripts. They encode prompt and target apart and count positions, so what is scored depends on
whether the tokenizer opens a text with a token (BOS below), and AlphaEdit and SPHERE take another branch where the
model's path holds the text `llama`. Here the branch is a name instead.

CounterFact: NLL of the target's ids, encoded with a space in front, from the prompt's last position on;
`paper-memit` takes all ids, the other two drop the first. zsRE: every id of the target is the one right answer to a
prompt of its own, which ends in the text of the ids before it:

| protocol | ids of the target | between prompt and text | right answer: of the id's text, encoded again |
|---|---|---|---|
| `paper-memit` | all | nothing | the first id |
| `paper-alphaedit` | all but the first | a space | the second id |
| `paper-sphere` | all but a first that is a space | a space | the first id, the second after a space |

`paper-memit` is also what AlphaEdit and SPHERE compute for a model whose path is without `llama`. zsRE's locality
prompts are built by the data set's reader: all ids, BOS among them, nothing between, whatever the protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from evaluators.edit_quality.encoding import Form, Pair, Reading
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import shared_length
from sphere_core.requests import Probe

__all__ = ["PaperEncoder", "PaperPair", "PaperProtocol"]

PaperProtocol = Literal["paper-memit", "paper-alphaedit", "paper-sphere"]


@dataclass(frozen=True)
class PaperPair:
    """A pair as a released evaluation asks it: one reading, or one for every token of the target."""

    readings: tuple[Reading, ...]


class PaperEncoder:
    """Encodes pairs as one released evaluation does, and remembers them; what is remembered depends on text alone."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, protocol: PaperProtocol) -> None:
        self.tokenizer = tokenizer
        self._protocol = protocol
        self._known: dict[Pair, PaperPair] = {}
        self._texts: dict[str, tuple[int, ...]] = {}

    def form(self, probe: Probe) -> Form:
        """A probe with a contrast is asked as CounterFact is, one without as zsRE is."""
        if probe.contrast is not None:
            return "whole"
        return "locality" if probe.role == "neighborhood" else "tokens"

    def encode(self, pairs: Sequence[Pair]) -> list[PaperPair]:
        """Return the pairs as token ids.

        Raises InputError if the released code would read padding, divide by zero or index past the end: its
        number would then depend on what else is in the batch, or not exist.
        """
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        whole = [pair for pair in missing if pair.form == "whole"]
        self._read([text for pair in whole for text in (pair.prompt, f" {pair.target}", _together(pair))])
        for pair in missing:
            self._known[pair] = PaperPair(self._whole(pair) if pair.form == "whole" else self._stepwise(pair))
        self._texts.clear()
        return [self._known[pair] for pair in pairs]

    def _whole(self, pair: Pair) -> tuple[Reading, ...]:
        """CounterFact: the target's ids are scored from the prompt's last position on.

        The branch that also drops the first logit takes one from every position: what is read where stays the same.
        """
        inputs, targets = self._ids(_together(pair)), self._ids(f" {pair.target}")
        if self._protocol != "paper-memit":
            targets = targets[1:]
        first = len(self._ids(pair.prompt)) - 1
        if not targets:
            raise self._fault(pair, "dropping the target's first id leaves none to score")
        if first < 0 or first + len(targets) > len(inputs):
            raise self._fault(pair, "the target encoded by itself is longer than what it adds to the prompt")
        return (Reading(inputs, first, targets, first + 1),)

    def _stepwise(self, pair: Pair) -> tuple[Reading, ...]:
        """zsRE: every token of the target is the only answer to a prompt of its own."""
        ids = self._ids(f" {pair.target}")
        joint = ""
        if pair.form == "tokens" and self._protocol != "paper-memit":
            joint = " "
            dropped = self._protocol == "paper-alphaedit" or (len(ids) > 1 and self._decode(ids[:1]) == " ")
            ids = ids[1:] if dropped else ids
        if not ids:
            raise self._fault(pair, "dropping the target's first id leaves none to score")
        pieces = [self._ids(self._decode([token])) for token in ids]
        place = self._answer_place(pair, pieces)
        head, readings = self._ids(pair.prompt), []
        for index in range(len(ids)):
            before = joint + self._decode(ids[:index]) if index else ""
            inputs = self._ids(pair.prompt + before)
            if not inputs:
                raise self._fault(pair, "the prompt has no token")
            # The text of the target's earlier ids is not the prompt, though the released script puts it there.
            end = shared_length(head, inputs)
            readings.append(Reading(inputs, len(inputs) - 1, (self._padded(pair, pieces[index], place),), end))
        return tuple(readings)

    def _answer_place(self, pair: Pair, pieces: list[tuple[int, ...]]) -> int:
        """Return which id of a piece is compared with the prediction; the pieces of a target are padded together."""
        longest = max(len(piece) for piece in pieces)
        if self._protocol == "paper-alphaedit":
            if longest < 2:
                raise self._fault(pair, "no piece of the target has a second id to compare with")
            return 1
        is_space = longest > 1 and bool(pieces[0]) and self._decode(pieces[0][:1]) == " "
        return 1 if self._protocol == "paper-sphere" and is_space else 0

    def _padded(self, pair: Pair, piece: tuple[int, ...], place: int) -> int:
        if place < len(piece):
            return piece[place]
        # The released scripts set the padding token to the one that ends a text.
        if self.tokenizer.eos_token_id is None:
            raise self._fault(pair, "a piece of the target is padded, and the tokenizer has no token that ends a text")
        return int(self.tokenizer.eos_token_id)

    def _read(self, texts: Sequence[str]) -> None:
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if missing:
            encoded = self.tokenizer(missing, padding=False, truncation=False)["input_ids"]
            self._texts.update(zip(missing, map(tuple, encoded), strict=True))

    def _ids(self, text: str) -> tuple[int, ...]:
        """Return all ids of a text, special ones at both ends included, as the released scripts take them."""
        self._read([text])
        return self._texts[text]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids)))

    def _fault(self, pair: Pair, why: str) -> InputError:
        return InputError(
            f"the released evaluation has no number for this pair: {why}",
            where=f"protocol {self._protocol}, prompt {pair.prompt!r}, target {pair.target!r}",
            remedy="use another protocol: `correct` holds for every tokenizer, and `paper-memit` is what the "
            "released scripts run where the model's path is without 'llama'",
        )


def _together(pair: Pair) -> str:
    return f"{pair.prompt} {pair.target}"
