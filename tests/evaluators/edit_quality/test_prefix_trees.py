"""Prefix trees: every row as if it were alone, in every family; what is shared, and when rows are padded instead."""

import itertools

import pytest
import torch
from eval_parts import tiny_llama
from tiny_models import FAMILIES, tiny_model

import evaluators.edit_quality.pair_scores as pair_scores
from evaluators.edit_quality.encoding import EncodedPair
from evaluators.edit_quality.pair_scores import score_pairs
from evaluators.edit_quality.prefix_trees import prefix_trees, reads_trees, tree_hidden
from sphere_core.models import EditableModel

ROWS = [(5, 9, 11, 40), (5, 9, 11, 41, 7), (5, 9, 2), (8, 3, 3, 3, 3, 2, 9), (5,), (8, 3, 3, 4)]
# Windows of these families are shorter than the longest row.
WINDOWED = {"gemma2", "gemma3_text"}


def alone(model: EditableModel, row: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        output = model.decoder(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row)), use_cache=False)
    return output.last_hidden_state[0]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in WINDOWED])
def test_every_row_is_read_as_if_alone(family: str) -> None:
    model = tiny_model(family)
    trees = prefix_trees(ROWS)
    assert [len(tree.ids) for tree in trees] == [15]
    with torch.no_grad():
        hidden = tree_hidden(model, trees)
    for row, path in trees[0].paths.items():
        assert torch.allclose(hidden[0, path], alone(model, row), atol=2e-5), row


def test_trees_of_several_sizes_in_one_forward() -> None:
    model = tiny_model("llama")
    trees = [*prefix_trees(ROWS[:3]), *prefix_trees(ROWS[3:])]
    with torch.no_grad():
        hidden = tree_hidden(model, trees)
    for line, tree in enumerate(trees):
        for row, path in tree.paths.items():
            assert torch.allclose(hidden[line, path], alone(model, row), atol=2e-5)


def test_trees_hold_every_row_once_and_stay_small() -> None:
    rows = [tuple(row) for length in (1, 3, 6) for row in itertools.product(range(4), repeat=length)]
    trees = prefix_trees([*rows, tuple(range(300))])
    assert len(trees[0].ids) == 300
    assert all(len(tree.ids) <= 256 for tree in trees[1:])
    held = [row for tree in trees for row in tree.paths]
    assert sorted(held) == sorted([*rows, tuple(range(300))])
    for tree in trees:
        for row, path in tree.paths.items():
            assert [tree.ids[node] for node in path] == list(row)
            assert [tree.depths[node] for node in path] == list(range(len(row)))
    # 4 + 4^2 + ... + 4^6 nodes, and few of them twice.
    assert sum(len(tree.ids) for tree in trees) < 1.05 * (sum(4**depth for depth in range(1, 7)) + 300)
    assert prefix_trees([]) == []


@pytest.mark.parametrize("family", sorted(WINDOWED))
def test_a_window_shorter_than_a_row_is_read_padded(family: str) -> None:
    model = tiny_model(family)
    assert not reads_trees(model, 7)
    assert reads_trees(model, 6)


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
    monkeypatch.setattr(pair_scores, "tree_hidden", lambda *given: read.append(1) or tree_hidden(*given))
    with torch.no_grad():
        model.network.get_input_embeddings().weight[8] = torch.inf
    found = score_pairs(model, pairs(), token_budget=4096)
    assert read == [1]
    # Token 8 ends the second prompt and opens the third; it is no target.
    assert found.finite.tolist() == [True] * 3 + [False] * 6
