"""Agreement with the unedited model: what it predicted before, on prompts an edit should leave alone."""

from collections.abc import Sequence

import numpy as np

from evaluators.edit_quality.encoding import Encoder, Pair
from evaluators.edit_quality.pair_scores import PairScores
from evaluators.edit_quality.unedited_answers import UneditedAnswers, by_pair
from sphere_core.models import EditableModel

__all__ = ["agreeing"]


def agreeing(
    answers: UneditedAnswers,
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
    before = answers.of(model, encoder, [pairs[place] for place in asked], token_budget=token_budget)
    now = by_pair(scores)
    agreed = np.full(len(pairs), -1, dtype=np.int64)
    for place, answer in zip(asked, before, strict=True):
        agreed[place] = int((now[place] == answer.predicted).sum())
    return agreed
