"""Scores read from prefix trees: those of padded rows, also beside a row that overflows."""

import pytest
import torch
from eval_parts import tiny_llama

import evaluators.edit_quality.pair_scores as pair_scores
from evaluators.edit_quality.encoding import EncodedPair
from evaluators.edit_quality.pair_scores import score_pairs
from sphere_core.models.prefix_trees import tree_hidden_at


def pairs() -> list[EncodedPair]:
    stems = [(5, 9, 11, 2, 2, 7), (5, 9, 11, 2, 2, 8), (8, 3, 3, 1)]
    return [EncodedPair((*stem, *target), len(stem)) for stem in stems for target in ((4,), (6, 7), (6, 9, 1))]


@pytest.mark.parametrize("token_budget", [1, 12, 4096])
def test_scores_are_those_of_padded_rows(monkeypatch: pytest.MonkeyPatch, token_budget: int) -> None:
    model = tiny_llama()
    found = score_pairs(model, pairs(), token_budget=token_budget)
    monkeypatch.setattr(pair_scores, "reads_trees", lambda *_: False)
    expected = score_pairs(model, pairs(), token_budget=token_budget)
    assert found.nll_sum == pytest.approx(expected.nll_sum, abs=1e-5)
    assert (found.predicted == expected.predicted).all()
    assert (found.tokens == expected.tokens).all()


def test_one_row_that_overflows_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    read = []
    monkeypatch.setattr(pair_scores, "tree_hidden_at", lambda *given: read.append(1) or tree_hidden_at(*given))
    with torch.no_grad():
        model.network.get_input_embeddings().weight[8] = torch.inf
    found = score_pairs(model, pairs(), token_budget=4096)
    assert read == [1]
    # Token 8 ends the second prompt and opens the third; it is no target.
    assert found.finite.tolist() == [True] * 3 + [False] * 6
