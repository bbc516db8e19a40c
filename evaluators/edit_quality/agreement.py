"""Agreement with the unedited model: what it predicted before, on prompts an edit should leave alone."""

from collections.abc import Sequence

import numpy as np

from evaluators.base import unedited
from evaluators.edit_quality.encoding import Encoder, Pair
from evaluators.edit_quality.pair_scores import PairScores
from evaluators.edit_quality.probes import ask
from sphere_core.models import EditableModel

__all__ = ["UneditedAnswers"]


class UneditedAnswers:
    """The tokens that the unedited model predicts where a target's tokens are asked, each pair asked once.

    They belong to one base model, known by its digest, and to one tokenizer; another one empties the memory.
    """

    def __init__(self) -> None:
        self._base: str | None = None
        self._encoder: Encoder | None = None
        self._known: dict[Pair, tuple[int, ...]] = {}

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
        missing = [pairs[place] for place in asked if pairs[place] not in self._known]
        if missing:
            with unedited(model):
                found = ask(model, encoder, missing, token_budget=token_budget)
            for pair, predicted in zip(missing, _by_pair(found), strict=True):
                self._known[pair] = tuple(predicted.tolist())
        now = _by_pair(scores)
        agreed = np.full(len(pairs), -1, dtype=np.int64)
        for place in asked:
            agreed[place] = int((now[place] == np.array(self._known[pairs[place]])).sum())
        return agreed


def _by_pair(scores: PairScores) -> list[np.ndarray]:
    return np.split(scores.predicted, np.cumsum(scores.tokens)[:-1])
