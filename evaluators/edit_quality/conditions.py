"""Probes that are asked only where the unedited model knows something beforehand (RippleEdits, arXiv 2307.12976)."""

from collections.abc import Iterable, Sequence

import numpy as np

from evaluators.base import unedited
from evaluators.edit_quality.encoding import Encoder, Pair
from evaluators.edit_quality.probes import ask
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, KnownFact

__all__ = ["KnownBefore"]


class KnownBefore:
    """Which facts the unedited model knows, each asked once: every token of one of its answers is the argmax.

    They belong to one base model, known by its digest, and to one tokenizer; another one empties the memory.
    """

    def __init__(self) -> None:
        self._base: str | None = None
        self._encoder: Encoder | None = None
        self._known: dict[KnownFact, bool] = {}

    def unknown(
        self,
        model: EditableModel,
        encoder: Encoder,
        requests: Sequence[EditRequest],
        chosen: Sequence[int] | None,
        *,
        token_budget: int,
    ) -> frozenset[KnownFact]:
        """Return the conditions of the requests' probes that the unedited model does not meet.

        `chosen` are the 1-based places of the requests that are asked; None: all of them. The model is given back with
        the weights it came with.
        """
        if self._base != model.base_digest or self._encoder is not encoder:
            self._base, self._encoder = model.base_digest, encoder
            self._known.clear()
        places = range(1, len(requests) + 1) if chosen is None else chosen
        facts = {fact for place in places for probe in requests[place - 1].probes for fact in probe.known_before}
        missing = sorted(facts - self._known.keys(), key=lambda fact: (fact.prompt, fact.answers))
        if missing:
            with unedited(model):
                self._known.update(_asked(model, encoder, missing, token_budget))
        return frozenset(fact for fact in facts if not self._known[fact])


def _asked(
    model: EditableModel, encoder: Encoder, facts: Sequence[KnownFact], token_budget: int
) -> Iterable[tuple[KnownFact, bool]]:
    pairs = [Pair(fact.prompt, answer) for fact in facts for answer in fact.answers]
    exact = ask(model, encoder, pairs, token_budget=token_budget).exact
    ends = np.cumsum([len(fact.answers) for fact in facts])
    return zip(facts, (bool(part.any()) for part in np.split(exact, ends[:-1])), strict=True)
