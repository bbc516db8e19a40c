"""What the unedited model is asked depends on the checkpoint alone, not on what this process asked before."""

from collections.abc import Sequence

import numpy as np
import pytest
from eval_parts import tiny_llama

from evaluators.edit_quality.conditions import unknown_facts
from evaluators.edit_quality.encoding import Encoder, Pair, PairEncoder
from evaluators.edit_quality.pair_scores import PairScores
from evaluators.edit_quality.unedited_answers import UneditedAnswers
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, KnownFact, Probe

HISTORIES = [(), (700,), (30, 700), (1100, 30), (1100, 1024, 700)]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what is asked together; an answer is that size and right if it is even, as rounding might have it."""
    asked: list[int] = []

    def one_batch(model: EditableModel, encoder: Encoder, pairs: Sequence[Pair], *, token_budget: int) -> PairScores:
        asked.append(len(pairs))
        count, zeros, yes = len(pairs), np.zeros(len(pairs)), np.ones(len(pairs), dtype=bool)
        return PairScores(
            nll_mean=zeros,
            nll_sum=zeros,
            tokens=np.ones(count, dtype=np.int64),
            exact=np.full(count, count % 2 == 0),
            token_accuracy=zeros,
            finite=yes,
            tied=~yes,
            predicted=np.full(count, count),
        )

    monkeypatch.setattr("evaluators.edit_quality.unedited_answers.ask", one_batch)
    return asked


@pytest.mark.parametrize("earlier", HISTORIES)
def test_what_was_scored_before_changes_no_answer(batches: list[int], earlier: tuple[int, ...]) -> None:
    model = tiny_llama()
    encoder, pairs = PairEncoder(model.tokenizer), [Pair(f"prompt {place}", " target") for place in range(1100)]

    def answered(answers: UneditedAnswers, count: int) -> list[int]:
        return [int(one.predicted[0]) for one in answers.of(model, encoder, pairs[:count], token_budget=8)]

    expected = answered(UneditedAnswers(), 1050)
    assert expected == [512] * 1024 + [26] * 26
    answers = UneditedAnswers()
    for count in earlier:
        answered(answers, count)
    batches.clear()
    assert answered(answers, 1050) == expected
    # Whole chunks that the checkpoint before had are not asked again.
    assert batches == [512] * (2 - (earlier[-1] if earlier else 0) // 512) + [26]


@pytest.mark.parametrize("earlier", HISTORIES)
def test_nor_does_it_change_which_conditions_are_met(batches: list[int], earlier: tuple[int, ...]) -> None:
    model = tiny_llama()
    encoder = PairEncoder(model.tokenizer)
    facts = [KnownFact(f"fact {place}", (" yes",)) for place in range(1100)]
    requests = [
        EditRequest(str(place), "{} is", "X", " y", None, probes=(Probe("logic", "p", " t", known_before=(fact,)),))
        for place, fact in enumerate(facts)
    ]

    def unmet(answers: UneditedAnswers, count: int) -> frozenset[KnownFact]:
        return unknown_facts(answers, model, encoder, requests[:count], None, token_budget=8)

    expected = unmet(UneditedAnswers(), 1049)
    assert expected == frozenset(facts[1024:1049])
    answers = UneditedAnswers()
    for count in earlier:
        unmet(answers, count)
    assert unmet(answers, 1049) == expected
