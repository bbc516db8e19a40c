"""Prefix trees: every row as if it were alone, in every family; what is shared, and when rows are padded instead."""

import itertools
from dataclasses import replace

import pytest
import torch
from tiny_models import FAMILIES, tiny_model

from sphere_core.locate.prompts import pad_right
from sphere_core.models import EditableModel
from sphere_core.models.layer_calls import hidden_states
from sphere_core.models.prefix_trees import prefix_trees, reads_trees, tree_hidden, tree_hidden_at
from sphere_core.models.suffix import TailLayout, record_tail

ROWS = [(5, 9, 11, 40), (5, 9, 11, 41, 7), (5, 9, 2), (8, 3, 3, 3, 3, 2, 9), (5,), (8, 3, 3, 4)]
# Windows of these families are shorter than the longest row.
WINDOWED = {"gemma2", "gemma3_text"}
# Layers of this one carry a state.
RECURRENT = {"qwen3_5_text"}


def alone(model: EditableModel, row: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        output = model.decoder(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row)), use_cache=False)
    return output.last_hidden_state[0]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in WINDOWED | RECURRENT])
def test_every_row_is_read_as_if_alone(family: str) -> None:
    model = tiny_model(family)
    trees = prefix_trees(ROWS)
    assert [len(tree.ids) for tree in trees] == [15]
    with torch.no_grad():
        hidden = tree_hidden(model, trees)
    for row, path in trees[0].paths.items():
        assert torch.allclose(hidden[0, path], alone(model, row), atol=2e-5), row


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in WINDOWED | RECURRENT])
def test_some_nodes_are_read_as_if_all_were(family: str) -> None:
    model = tiny_model(family)
    trees = [*prefix_trees(ROWS[:3]), *prefix_trees(ROWS[3:])]
    lines, nodes = (1, 0, 0, 1, 0), (2, 1, 5, 5, 0)
    with torch.no_grad():
        found, expected = tree_hidden_at(model, trees, lines, nodes), tree_hidden(model, trees)
    assert torch.allclose(found, expected[list(lines), list(nodes)], atol=2e-6)


def test_a_tree_of_enough_nodes_ends_where_little_is_shared() -> None:
    # Four beginnings of 40 rows each, 3 + 40 tokens each; 1 opens every row.
    rows = [(1, first, 2, 3, last) for first in range(4) for last in range(40)]
    trees = prefix_trees(rows)
    assert [len(tree.ids) for tree in trees] == [87, 87]
    assert sum(len(tree.paths) for tree in trees) == 160
    # All of one row's beginning is more than a little.
    assert [len(tree.ids) for tree in prefix_trees(rows[:40] + [(1, 0, 2, 3, 39, last) for last in range(99)])] == [143]


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


@pytest.mark.parametrize("family", sorted(RECURRENT))
def test_what_carries_a_state_is_read_padded(family: str) -> None:
    assert not reads_trees(tiny_model(family), 2)


def alone_last(model: EditableModel, row: tuple[int, ...]) -> torch.Tensor:
    """The last layer's output of one row, before the final norm."""
    kept: list[torch.Tensor] = []
    handle = model.layers[-1].register_forward_hook(lambda _, __, out: kept.append(hidden_states(out)))
    alone(model, row)
    handle.remove()
    return kept[0][0]


def test_a_row_that_overflows_spoils_no_other_recording() -> None:
    model = tiny_model("llama", layers=3)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[8] = torch.inf
    rows = [(5, 9, 11, 40, 2), (5, 9, 11, 40, 8), (5, 9, 11, 40, 8, 1), (5, 9, 11, 40)]
    ids, mask = pad_right(rows, fill=0, device=model.device)
    starts, layout = torch.tensor([1, 2, 3, 1]), replace(TailLayout.of(model.device), shares=True)
    found = record_tail(model, 0, ids, mask, starts, layout=layout)
    with torch.no_grad():
        out = found.run(found.hidden)
    assert torch.isfinite(out[[0, 3]]).all()
    last = [alone_last(model, rows[place])[int(starts[place]) :] for place in (0, 3)]
    assert torch.allclose(out[0, :4], last[0], atol=2e-5)
    assert torch.allclose(out[3, :3], last[1], atol=2e-5)
    assert not torch.isfinite(out[1]).all()
