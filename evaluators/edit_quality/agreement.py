"""Agreement with the unedited model: what it predicted before, on prompts an edit should leave alone."""

from collections.abc import Sequence

import numpy as np

from evaluators.base import unedited
from evaluators.edit_quality.encoding import Encoder, Pair
from evaluators.edit_quality.pair_scores import PairScores
from evaluators.edit_quality.probes import ask
from sphere_core.models import EditableModel

__all__ = ["UneditedAnswers"]


# Pairs that are asked together. Earlier chunks of a growing list are the same at every checkpoint and asked once.
_CHUNK = 512


class UneditedAnswers:
    """The tokens that the unedited model predicts where a target's tokens are asked, each chunk of pairs asked once.

    They belong to one base model, known by its digest, and to one tokenizer; another one empties the memory. In half
    precision an answer depends on what is asked in the same forward. The chunks of a checkpoint depend on its own
    pairs alone, so that what was scored before in this process changes no answer.
    """

    def __init__(self) -> None:
        self._base: str | None = None
        self._encoder: Encoder | None = None
        self._known: dict[tuple[Pair, ...], list[np.ndarray]] = {}

    def agreeing(
        self,
        model: EditableModel,
        encoder: Encoder,
        pairs: Sequence[Pair],
        scores: PairScores,
        asked: np.ndarray,
        *,
        token_budget: int,
    ) -> np.ndarray:
        """Return for each pair how many of its tokens are predicted as by the unedited model; -1 where not `asked`.

        `asked` indexes `pairs`; `scores` are theirs under the weights the model holds now.
        """
        if self._base != model.base_digest or self._encoder is not encoder:
            self._base, self._encoder = model.base_digest, encoder
            self._known.clear()
        wanted = [pairs[place] for place in asked]
        chunks = [tuple(wanted[start : start + _CHUNK]) for start in range(0, len(wanted), _CHUNK)]
        missing = [chunk for chunk in dict.fromkeys(chunks) if chunk not in self._known]
        if missing:
            with unedited(model):
                found = {chunk: _by_pair(ask(model, encoder, chunk, token_budget=token_budget)) for chunk in missing}
            self._known.update(found)
        # A chunk that has grown is not asked again.
        self._known = {chunk: self._known[chunk] for chunk in chunks}
        before = [answer for chunk in chunks for answer in self._known[chunk]]
        now = _by_pair(scores)
        agreed = np.full(len(pairs), -1, dtype=np.int64)
        for place, answer in zip(asked, before, strict=True):
            agreed[place] = int((now[place] == answer).sum())
        return agreed


def _by_pair(scores: PairScores) -> list[np.ndarray]:
    return np.split(scores.predicted, np.cumsum(scores.tokens)[:-1])
