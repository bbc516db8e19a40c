"""What the unedited model answers, asked in a way that depends on the checkpoint alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluators.base import unedited
from evaluators.edit_quality.encoding import Encoder, Pair
from evaluators.edit_quality.pair_scores import PairScores
from evaluators.edit_quality.probes import ask
from sphere_core.models import EditableModel

__all__ = ["Answer", "UneditedAnswers", "by_pair"]

# Pairs that are asked together. Earlier chunks of a growing list are the same at every checkpoint and asked once.
_CHUNK = 512


class Answer(NamedTuple):
    """The tokens that a model predicts at a target's tokens, and whether they are the target."""

    predicted: np.ndarray
    exact: bool


class UneditedAnswers:
    """The unedited model's answers to the pairs of the last checkpoint, each chunk of them asked once.

    They belong to one base model, known by its digest, and to one tokenizer; another one empties the memory. In half
    precision an answer depends on what is asked in the same forward. The chunks of a checkpoint depend on its own
    pairs alone, so that what was scored before in this process changes no answer.
    """

    def __init__(self) -> None:
        self._base: str | None = None
        self._encoder: Encoder | None = None
        self._known: dict[tuple[Pair, ...], list[Answer]] = {}

    def of(self, model: EditableModel, encoder: Encoder, pairs: Sequence[Pair], *, token_budget: int) -> list[Answer]:
        """Return the answers in the order of the pairs; the model is given back with the weights it came with."""
        if self._base != model.base_digest or self._encoder is not encoder:
            self._base, self._encoder = model.base_digest, encoder
            self._known.clear()
        chunks = [tuple(pairs[start : start + _CHUNK]) for start in range(0, len(pairs), _CHUNK)]
        missing = [chunk for chunk in dict.fromkeys(chunks) if chunk not in self._known]
        if missing:
            with unedited(model):
                for chunk in missing:
                    self._known[chunk] = _answers(ask(model, encoder, chunk, token_budget=token_budget))
        # A chunk that has grown is not asked again.
        self._known = {chunk: self._known[chunk] for chunk in chunks}
        return [answer for chunk in chunks for answer in self._known[chunk]]


def by_pair(scores: PairScores) -> list[np.ndarray]:
    """Return the predicted tokens of each pair."""
    return np.split(scores.predicted, np.cumsum(scores.tokens)[:-1])


def _answers(scores: PairScores) -> list[Answer]:
    return [Answer(predicted, bool(exact)) for predicted, exact in zip(by_pair(scores), scores.exact, strict=True)]
