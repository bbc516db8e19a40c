"""The gate: what anchors lose, by hand, and how a smaller scale is found."""

import math

import pytest
import torch
from method_parts import editor
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.editors.wrappers.anchors import Answers, cost, divergence
from sphere_core.editors.wrappers.gate import GatedEditor, GateSettings
from sphere_core.locate.prompts import target_ids, text_ids
from sphere_core.locate.supervision import supervise


def settings(**changes: object) -> GateSettings:
    values = {"budget": 0.1, "anchors": 4, "steps": 5, "measure": "bits", "search": "bisection", "min_scale": 0.1}
    return GateSettings(**{**values, **changes})  # type: ignore[arg-type]


def answers(bits: list[float], tokens: list[int], exact: list[bool]) -> Answers:
    return Answers(torch.tensor(bits).double(), torch.tensor(tokens).double(), torch.tensor(exact))


def test_an_anchor_that_gains_does_not_pay_for_one_that_is_lost() -> None:
    before = answers([2.0, 3.0, 1.0], [1, 3, 2], [True, True, False])
    after = answers([5.0, 0.0, 1.5], [1, 3, 2], [False, True, False])
    # Rises 3, 0 and 0.5 bits over 1, 3 and 2 tokens.
    assert cost(before, after, "bits") == pytest.approx((3 * 1 + 0 * 3 + 0.5 * 2) / 6)
    assert cost(before, after, "exact_match") == pytest.approx(1 / 3)
    broken = answers([math.nan, 0.0, 1.0], [1, 3, 2], [False, True, False])
    assert cost(before, broken, "exact_match") == math.inf


def test_divergence_is_that_of_greedy_answers_written_out() -> None:
    model, plain, stream = tiny_model("llama"), tiny_model("llama"), requests()[:3]
    (site,) = model.open_sites([1])
    before = model.weight(site)
    model.set_weight(site, before + 0.05 * torch.randn(before.shape, generator=torch.Generator().manual_seed(2)))
    plain.network.load_state_dict(model.network.state_dict())

    def log_of(network: torch.nn.Module, ids: list[int], begin: int) -> float:
        logs = network(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return sum(float(logs[place - 1, ids[place]]) for place in range(begin, len(ids)))

    rows, count = [], 0
    with torch.no_grad():
        for request in stream:
            prompt = list(text_ids(model.tokenizer, request.question))
            ids = list(prompt)
            for _ in target_ids(model.tokenizer, request):
                ids.append(int(plain.network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            rows.append((ids, len(prompt)))
            count += len(ids) - len(prompt)
        now = sum(log_of(plain.network, *row) for row in rows)
        then = sum(log_of(tiny_model("llama").network, *row) for row in rows)
    found = divergence(model, stream, lambda: model.set_weight(site, before))
    assert len({end for _, end in rows}) > 1
    assert found == pytest.approx((now - then) / math.log(2) / count, rel=1e-4)
    assert found > 0.05
    assert divergence(model, stream, lambda: None) == 0.0
    model.set_weight(site, before * math.nan)
    assert divergence(model, stream, lambda: None) == math.inf


@pytest.mark.parametrize(
    ("search", "limit", "min_scale", "expected"),
    [
        ("halving", 0.3, 0.0, 0.25),
        ("halving", 0.01, 0.0, 0.0),
        ("bisection", 0.3, 0.1, 0.28125),
        ("bisection", 0.99, 0.1, 0.96875),
        ("bisection", 0.05, 0.1, 0.0),
        ("bisection", 0.05, 0.01, 0.03125),
    ],
)
def test_a_smaller_scale_is_found(search: str, limit: float, min_scale: float, expected: float) -> None:
    gated = GatedEditor(editor("memit", tiny_model("llama")), (0, 1), settings(search=search, min_scale=min_scale))
    assert gated._smaller(lambda scale: scale <= limit) == expected


@pytest.mark.parametrize("search", ["halving", "bisection"])
def test_a_batch_over_budget_is_shrunk_along_its_own_change(search: str) -> None:
    model, free = tiny_model("llama"), tiny_model("llama")
    steps = {"v_num_grad_steps": 25}
    changes = {**steps, "gate_search": search, "gate_budget": 1e9, "gate_min_scale": 0.01}
    state = editor("memit+gate", model, **changes).edit(model, requests()[:2], CONTEXTS, EditorState())
    plain = editor("memit", free, **steps).edit(free, requests()[:2], CONTEXTS, EditorState())
    middle = [model.weight(site) for site in model.sites]
    assert all(torch.equal(model.weight(a), free.weight(b)) for a, b in zip(model.sites, free.sites, strict=True))
    # Written whole, this request costs the two anchors 0.6 bits per token.
    editor("memit", free, **steps).edit(free, requests()[2:3], CONTEXTS, plain)
    tight = editor("memit+gate", model, **{**changes, "gate_budget": 0.2})
    after = tight.edit(model, requests()[2:3], CONTEXTS, state)
    scales = []
    for site, start, whole in zip(model.sites, middle, free.sites, strict=True):
        change, full = model.weight(site) - start, free.weight(whole) - start
        scales.append(float((change * full).sum() / full.square().sum()))
    verdicts = {name: after.part("gate").scalars.get(name, 0) for name in ("accepted", "shrunk", "rejected")}
    assert verdicts == {"accepted": 1, "shrunk": 1, "rejected": 0}
    assert max(scales) - min(scales) < 1e-4
    assert 0 < max(scales) < 0.9


def test_token_scores_add_up_to_the_loss() -> None:
    model = tiny_model("llama")
    supervision = supervise(model, requests()[:3])
    with torch.no_grad():
        nll, right = supervision.token_scores(model)
        assert float((nll * supervision.weights).sum() / 3) == pytest.approx(float(supervision.loss(model)), rel=1e-6)
        assert float(supervision.token_loss(model)) == pytest.approx(float(nll.sum()), rel=1e-6)
    assert right.shape == nll.shape
