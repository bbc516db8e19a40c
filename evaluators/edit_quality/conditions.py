"""Probes that are asked only where the unedited model knows something beforehand (RippleEdits, arXiv 2307.12976)."""

from collections.abc import Sequence

from evaluators.edit_quality.encoding import Encoder, Pair
from evaluators.edit_quality.unedited_answers import UneditedAnswers
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, KnownFact

__all__ = ["unknown_facts"]


def unknown_facts(
    answers: UneditedAnswers,
    model: EditableModel,
    encoder: Encoder,
    requests: Sequence[EditRequest],
    chosen: Sequence[int] | None,
    *,
    token_budget: int,
) -> frozenset[KnownFact]:
    """Return the conditions of the requests' probes that the unedited model does not meet.

    It meets one if every token of one of the fact's answers is the argmax. `chosen` are the 1-based places of the
    requests that are asked; None: all of them. The model is given back with the weights it came with.
    """
    places = range(1, len(requests) + 1) if chosen is None else chosen
    facts = dict.fromkeys(
        fact for place in places for probe in requests[place - 1].probes for fact in probe.known_before
    )
    pairs = [Pair(fact.prompt, answer) for fact in facts for answer in fact.answers]
    found = iter(answers.of(model, encoder, pairs, token_budget=token_budget))
    # The list is whole before it is judged: each fact takes as many answers as it has.
    exact = {fact: [next(found).exact for _ in fact.answers] for fact in facts}
    return frozenset(fact for fact, right in exact.items() if not any(right))
