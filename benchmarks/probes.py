"""Probes in made-up words with the shape of CounterFact's: a rewrite, two paraphrases, ten neighbours, both answers."""

import random
from collections.abc import Sequence
from dataclasses import replace

from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, Probe

__all__ = ["counterfact_probes"]

_NEIGHBOURS = 10


def counterfact_probes(model: EditableModel, requests: Sequence[EditRequest]) -> list[EditRequest]:
    """Return the requests with 13 probes each, in words of `word_tokenizer`.

    A paraphrase has 8 to 14 unrelated words and a full stop before the subject, as those of CounterFact do. A neighbour
    is another subject of two to four words, followed by the rewrite's own words in half of the cases, else by others of
    one relation: prompts share nothing from their beginning, so that prefixes are shared between both answers alone.
    """
    draw = random.Random(1)
    # The last words of the vocabulary are fewer by those that are not made up.
    last = model.network.config.vocab_size - 5

    def words(low: int, high: int) -> str:
        return " ".join(f"w{draw.randint(0, last)}" for _ in range(draw.randint(low, high)))

    found = []
    for request in requests:
        true = words(1, 3)
        answers, switched = (request.target_new, true), (true, request.target_new)
        other = words(2, 5)
        probes = [Probe("rewrite", request.question, *answers)]
        probes += [Probe("paraphrase", f"{words(8, 14)} . {request.subject} {other}", *answers) for _ in range(2)]
        endings = (request.prompt.split("{}")[1].strip(), other)
        probes += [
            Probe("neighborhood", f"{words(2, 4)} {endings[index % 2]}", *switched) for index in range(_NEIGHBOURS)
        ]
        found.append(replace(request, probes=tuple(probes)))
    return found
