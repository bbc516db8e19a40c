"""The last layer where it is read: the values and gradients of whole forwards there, in every family."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_model

from sphere_core.locate.prompts import pad_right
from sphere_core.models.last_layer import Places, call_layer_at
from sphere_core.models.layer_calls import call_layer, recorded_calls
from sphere_core.models.suffix import Tail, TailLayout, record_tail

ROWS = [(5, 9, 11, 40, 2, 7, 3), (5, 9, 11, 40), (8, 3, 3, 3, 3, 2, 9), (8, 3, 3, 4, 2, 1)]
STARTS = [2, 3, 1, 4]
# Positions from each row's start on: apart, at the start alone, and all of a row.
READS = [[False, True, False, True, True], [True], [True, False, False, True, False, True], [True, True]]
LAYOUT = TailLayout(4, folds=True, packs=True, shares=True)


def reads() -> torch.Tensor:
    marked = torch.zeros(len(ROWS), 7, dtype=torch.bool)
    for row, flags in enumerate(READS):
        marked[row, : len(flags)] = torch.tensor(flags)
    return marked


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_and_its_gradient_are_those_of_all_positions(family: str) -> None:
    model = tiny_model(family, layers=3)
    ids, mask = pad_right(ROWS, fill=0, device=model.device)
    marked = reads()
    whole, read = (
        record_tail(model, 0, ids, mask, torch.tensor(STARTS), layout=LAYOUT, reads=given) for given in (None, marked)
    )
    marked = marked[:, : whole.hidden.shape[1]]
    for rows in (torch.arange(4), torch.tensor([0, 2, 3]), torch.tensor([1])):
        found = []
        for tail in (whole.select(rows), read.select(rows)):
            shift = torch.zeros(len(rows), 32, requires_grad=True)
            hidden = tail.hidden.clone()
            hidden[:, 0] += shift
            out = tail.run(hidden)[marked[rows]]
            (gradient,) = torch.autograd.grad(out.square().sum(), shift)
            found.append((out.detach(), gradient))
        assert torch.allclose(found[0][0], found[1][0], atol=2e-6)
        assert torch.allclose(found[0][1], found[1][1], rtol=1e-5, atol=1e-5)


def test_the_last_layer_multiplies_read_tokens_alone() -> None:
    model = tiny_model("llama", layers=3)
    ids, mask = pad_right(ROWS, fill=0, device=model.device)
    tail = record_tail(model, 0, ids, mask, torch.tensor(STARTS), layout=LAYOUT, reads=reads())
    assert isinstance(tail, Tail)
    seen: list[int] = []
    handles = [
        model.network.get_submodule(f"model.layers.{layer}.mlp").register_forward_pre_hook(
            lambda _, args: seen.append(args[0].shape[1])
        )
        for layer in (1, 2)
    ]
    with torch.no_grad():
        tail.run(tail.hidden)
    for handle in handles:
        handle.remove()
    assert seen == [sum(len(row) - start for row, start in zip(ROWS, STARTS, strict=True)), 9]


def test_a_layer_that_keeps_nothing_is_called_with_all_positions() -> None:
    places = Places(torch.arange(2)[:, None], torch.tensor([[0, 2], [1, 1]]))
    values = torch.randn(2, 3, 4)

    class Plain(torch.nn.Module):
        def forward(self, hidden: torch.Tensor, **_: object) -> torch.Tensor:
            return hidden + 1

    found = call_layer_at(Plain(), values, {}, places, torch.zeros(2, 1, 2, 3), None)
    assert torch.equal(found, values[torch.tensor([[0], [1]]), places.positions] + 1)


def test_padded_lines_are_cut_to_their_own_positions() -> None:
    model = tiny_model("llama", layers=2)
    ids, mask = pad_right(ROWS[:2], fill=0, device=model.device)
    hidden, calls = recorded_calls(model, [1], {"input_ids": ids, "attention_mask": mask})
    places = Places(torch.arange(2)[:, None], torch.tensor([[1, 4], [3, 3]]))
    layer, call = model.layers[1], calls[1]
    causal = torch.full((7, 7), torch.finfo(torch.float32).min).triu(1)
    with torch.no_grad():
        whole = call_layer(layer, hidden, {**call, "attention_mask": causal[None, None].expand(2, 1, 7, 7)})
        found = call_layer_at(layer, hidden, call, places, causal[places.positions][:, None], None)
    assert torch.allclose(found, places.of(whole), atol=1e-6)
