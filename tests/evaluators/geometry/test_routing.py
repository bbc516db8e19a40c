"""Routing similarity: against the routers' own logits, prompt by prompt, and where it must be one."""

import pytest
import torch
from method_parts import run
from tiny_models import tiny_model

from evaluators.base import Subject
from evaluators.geometry.routing import RoutingSimilarity, set_similarity
from sphere_core.foundation.errors import InputError
from sphere_core.models import EditableModel

PROMPTS = ("Mira Solen lives in the town of", "The violin", "Ilka Torm plays the old violin of Dario Venn")


def by_hand(model: EditableModel) -> list[list[set[int]]]:
    """The experts of each layer at the last token of each prompt, from the logits that the network itself returns."""
    found = []
    for prompt in PROMPTS:
        ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            logits = model.network(input_ids=ids, output_router_logits=True, use_cache=False).router_logits
        found.append([{*layer[-1].topk(2).indices.tolist()} for layer in logits])
    return found


def test_it_is_the_share_of_experts_that_stay() -> None:
    model = tiny_model("qwen3_moe")
    routing = RoutingSimilarity(PROMPTS)
    before = by_hand(model)
    rows = {row.protocol: row.value for row in routing.score(Subject(model, (), 1))}
    assert set(rows.values()) == {1.0}
    checkpoint = run("moeedit", model, L2=1e-8)[-1]
    model.load_weights(checkpoint.weights)
    now = by_hand(model)
    expected = [
        [len(a[layer] & b[layer]) / len(a[layer] | b[layer]) for a, b in zip(before, now, strict=True)]
        for layer in range(3)
    ]
    rows = {row.protocol: row.value for row in routing.score(Subject(model, (), 1))}
    for layer, shares in enumerate(expected):
        assert rows[f"layer-{layer}"] == pytest.approx(sum(shares) / 3)
    assert rows["all-layers"] == pytest.approx(sum(map(sum, expected)) / 9)
    # What is routed in the first layer, an edit of its experts cannot change.
    assert rows["layer-0"] == 1.0
    # The model is as it was.
    assert all(torch.equal(model.edited_weights()[name], tensor) for name, tensor in checkpoint.weights.items())


def test_sets_are_compared_without_their_order() -> None:
    before, now = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[2, 0, 1], [5, 6, 7]])
    assert set_similarity(before, now).tolist() == [1.0, pytest.approx(0.2)]


def test_a_model_without_experts_is_refused() -> None:
    with pytest.raises(InputError, match="has no experts to route to"):
        RoutingSimilarity(PROMPTS).score(Subject(tiny_model("llama"), (), 0))
