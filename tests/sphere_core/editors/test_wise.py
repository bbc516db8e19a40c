"""WISE against its formulas written out: losses, side memories and floors, merges, and what every token reads."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from memory_parts import site_io, site_of, site_output
from method_parts import editor, run
from tiny_models import CONTEXTS, requests, tiny_model

from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality
from evaluators.edit_quality.settings import EditQualitySettings
from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import without_facts
from sphere_core.editors.memory.wise import merged
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import opening_tokens, target_ids
from sphere_core.models import EditableModel
from sphere_core.models.attachments import Attachment
from sphere_core.requests import EditRequest

ALPHA, BETA, GAMMA = 0.2, 1.0, 0.5
SHARE, BOUND, SEED, RATE, DECAY, STEPS = 0.3, 0.1, 3, 0.5, 1e-3, 8
QUERIES = ["Mira Solen lives in the town of", "Ilka Torm plays the", "The violin of Dario Venn is", "The"]


def moved(inputs: torch.Tensor, change: torch.Tensor, opening: int) -> torch.Tensor:
    """u: the mean of |D a| over the tokens that count."""
    return torch.stack([(change @ token).norm() for token in inputs[opening:]]).mean()


def slow_loss(
    model: EditableModel, request: EditRequest, change: torch.Tensor, text: Sequence[int]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """NLL and margins, each context by a whole forward of its own; also u of each context."""
    target, opening = target_ids(model.tokenizer, request), len(opening_tokens(model.tokenizer))
    contexts = [context for group in CONTEXTS for context in group]
    total, near = torch.zeros(()), []
    for context in contexts:
        prompt = model.tokenizer(context.replace("{}", request.question)).input_ids
        handle = site_of(model).register_forward_hook(lambda _, args, output: output + args[0] @ change.T)
        logs = model.network(input_ids=torch.tensor([[*prompt, *target]])).logits[0].log_softmax(dim=-1)
        handle.remove()
        near.append(moved(site_io(model, prompt)[0], change, opening))
        for place, token in enumerate(target):
            total = total - logs[len(prompt) - 1 + place, token] / (len(target) * len(contexts))
    far = moved(site_io(model, text)[0], change, opening)
    for values in ([far - ALPHA], [BETA - each for each in near], [GAMMA + far - each for each in near]):
        above = [value for value in values if value > 0]
        if above:
            total = total + sum(above[1:], above[0]) / len(above)
    return total, near


def slow_memory(texts: Sequence[Sequence[int]], count: int) -> tuple[torch.Tensor, float]:
    """D and floor of the first memory after `count` edits, one torch.optim.SGD an edit."""
    model, floor = tiny_model("llama"), float("inf")
    change = torch.zeros(32, 72)
    mask = (torch.rand(32, 72, generator=torch.Generator().manual_seed(SEED)) < SHARE).float()
    for number, request in enumerate(requests()[:count]):
        text = texts[number % len(texts)]
        leaf = change.clone().requires_grad_(True)
        optimizer = torch.optim.SGD([leaf], RATE, weight_decay=DECAY)
        for step in range(STEPS):
            optimizer.zero_grad()
            # The norm of a zero change has no direction: the first step is that of the NLL alone.
            start = slow_loss(model, request, leaf, text)[0] if number or step else first_loss(model, request, leaf)
            start.backward()
            assert leaf.grad is not None
            leaf.grad *= mask
            optimizer.step()
            with torch.no_grad():
                leaf.clamp_(-BOUND, BOUND)
        change = leaf.detach()
        near = slow_loss(model, request, change, text)[1]
        floor = min(floor, float(sum(near[1:], near[0]) / len(near)))
    return change, floor


def first_loss(model: EditableModel, request: EditRequest, change: torch.Tensor) -> torch.Tensor:
    target = target_ids(model.tokenizer, request)
    contexts = [context for group in CONTEXTS for context in group]
    total = torch.zeros(())
    for context in contexts:
        prompt = model.tokenizer(context.replace("{}", request.question)).input_ids
        handle = site_of(model).register_forward_hook(lambda _, args, output: output + args[0] @ change.T)
        logs = model.network(input_ids=torch.tensor([[*prompt, *target]])).logits[0].log_softmax(dim=-1)
        handle.remove()
        for place, token in enumerate(target):
            total = total - logs[len(prompt) - 1 + place, token] / (len(target) * len(contexts))
    return total


def texts_of(state: EditorState) -> list[list[int]]:
    rows, lengths = state.tensors["wise/texts"].tolist(), state.tensors["wise/lengths"].tolist()
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def edited(**changes: object) -> tuple[EditableModel, Attachment]:
    model = tiny_model("llama")
    attachment = run("wise", model, **changes)[-1].attachment
    assert attachment is not None
    return model, attachment


def test_the_memory_and_its_floor_are_those_of_the_formulas() -> None:
    model = tiny_model("llama")
    last = run("wise", model, count=2, memory_stop_loss=0.0)[-1]
    assert last.attachment is not None
    change, floor = slow_memory(texts_of(last.state), 2)
    tensors = last.attachment.tensors
    assert tensors["shared/changes"].shape == (1, 32, 72)
    assert float((tensors["shared/changes"][0] - change).norm() / change.norm()) < 1e-3
    assert float(tensors["shared/floors"][0]) == pytest.approx(floor, rel=1e-3)
    assert float(change.norm()) > 0.1


def test_memories_are_closed_and_merged_after_their_edits() -> None:
    counts = []
    for place, checkpoint in enumerate(run("wise", tiny_model("llama"))):
        assert checkpoint.attachment is not None
        tensors = checkpoint.attachment.tensors
        counts.append((checkpoint.edits, len(tensors["shared/changes"])))
        if place == 0:
            first = tensors
        if place == 1:
            # Written as an edit of the second shard would be, and merged with the first.
            assert float(tensors["shared/floors"][0]) <= float(first["shared/floors"][0])
            assert not torch.equal(tensors["shared/changes"][0], first["shared/changes"][0])
    assert counts == [(2, 1), (4, 1), (5, 2)]


def test_a_merge_is_the_mean_of_what_agrees_in_sign() -> None:
    generator = torch.Generator().manual_seed(1)
    changes, density = torch.randn(3, 4, 5, generator=generator), 0.6
    expected = torch.zeros(4, 5)
    limits = [sorted(change.abs().flatten().tolist(), reverse=True)[int(density * 20) - 1] for change in changes]
    for row in range(4):
        for column in range(5):
            kept = [
                float(change[row, column])
                for change, limit in zip(changes, limits, strict=True)
                if abs(float(change[row, column])) >= limit
            ]
            sign = 1 if sum(kept) >= 0 else -1
            agree = [value for value in kept if value * sign > 0]
            expected[row, column] = sum(agree) / len(agree) if agree else 0.0
    assert torch.allclose(merged(changes, density), expected, atol=1e-6)


def test_what_every_token_reads_is_the_memory_that_moves_it_most() -> None:
    model, attachment = edited()
    for ratio in (0.0, 0.9, 1.0):
        model.attach(replace(attachment, scalars={**attachment.scalars, "ratio": ratio}))
        require_formula(model, attachment, ratio)


def require_formula(model: EditableModel, attachment: Attachment, ratio: float) -> None:
    changes, floors = attachment.tensors["shared/changes"], attachment.tensors["shared/floors"]
    plain, acted = tiny_model("llama"), []
    for text in QUERIES:
        prompt = model.tokenizer(text).input_ids
        ids = [*prompt, 40, 41]
        inputs = site_io(plain, ids)[0]
        activations = [float(moved(inputs[: len(prompt)], change, 1)) for change in changes]
        above = [
            (value, place)
            for place, (value, floor) in enumerate(zip(activations, floors, strict=True))
            if value > ratio * float(floor)
        ]
        expected = site_of(plain)(inputs).detach()
        acted.append(bool(above))
        if above:
            expected = expected + inputs @ changes[max(above)[1]].T
        given, routed = site_output(model, ids, len(prompt))
        assert torch.allclose(given, expected, atol=1e-5)
        assert bool(routed.any()) == acted[-1]
    assert any(acted)


def test_scores_say_what_it_stores_and_it_has_no_facts_to_delete() -> None:
    model, attachment = edited()
    scored = EditQuality(EditQualitySettings()).score(Subject(model, tuple(requests()), 5))
    rows = {row.metric: row.value for row in scored.rows if row.metric.startswith(("routed", "stored"))}
    assert rows["stored_bytes_per_edit"] == attachment.size / 5 == 4 * 2 * (32 * 72 + 1) / 5
    assert 0 < rows["routed_rewrite"] <= 1
    with pytest.raises(InputError, match="does not hold facts"):
        without_facts(attachment, requests()[:1])


def test_a_merge_inside_a_memory_is_refused() -> None:
    with pytest.raises(InputError, match="must be a multiple of wise_shard_edits"):
        editor("wise", tiny_model("llama"), wise_shard_edits=2, wise_merge_edits=5)
