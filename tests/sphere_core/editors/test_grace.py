"""GRACE against its rules written out: keys, radii and labels as lists, values by whole forwards, and what is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from memory_parts import greedy_ids, site_io, site_of, site_output
from method_parts import editor, run
from tiny_models import CONTEXTS, requests, tiny_model

from evaluators.base import Subject
from evaluators.edit_quality.encoding import Pair, PairEncoder
from evaluators.edit_quality.evaluator import EditQuality
from evaluators.edit_quality.generation import Decoding, continue_texts
from evaluators.edit_quality.pair_scores import score_pairs
from evaluators.edit_quality.settings import EditQualitySettings
from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import without_facts
from sphere_core.editors.memory.grace import _placed
from sphere_core.locate.prompts import target_ids
from sphere_core.models import EditableModel
from sphere_core.models.attachments import Attachment
from sphere_core.requests import EditRequest

RADIUS, RATE, STEPS = 0.5, 0.3, 8
QUERIES = ["Mira Solen lives in the town of", "Ilka Torm plays the", "The violin of Dario Venn is"]


def slow_value(model: EditableModel, request: EditRequest, start: torch.Tensor) -> torch.Tensor:
    """The value that Adam finds, each step by a whole forward with the value put in by a hook."""
    prompt = model.tokenizer(request.question).input_ids
    target = target_ids(model.tokenizer, request)
    value = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([value], lr=RATE)

    def put(_: torch.nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        rows = [*output[0, : len(prompt) - 1], value, *output[0, len(prompt) :]]
        return torch.stack(rows)[None]

    for _ in range(STEPS):
        optimizer.zero_grad()
        handle = site_of(model).register_forward_hook(put)
        logs = model.network(input_ids=torch.tensor([[*prompt, *target]])).logits[0].log_softmax(dim=-1)
        handle.remove()
        loss = -sum(logs[len(prompt) - 1 + place, token] for place, token in enumerate(target)) / len(target)
        loss.backward()
        optimizer.step()
    return value.detach()


@dataclass
class Entry:
    key: torch.Tensor
    value: torch.Tensor
    radius: float
    label: tuple[int, ...]


def slow_codebook(family: str, stream: Sequence[EditRequest], radius: float) -> list[Entry]:
    """The codebook from the rules, with values that start from what the site gives."""
    model, book = tiny_model(family), []
    for request in stream:
        label = target_ids(model.tokenizer, request)
        inputs, outputs = site_io(model, model.tokenizer(request.question).input_ids)
        own = Entry(inputs[-1], outputs[-1], radius, label)
        distances = [float((entry.key - own.key).norm()) for entry in book]
        if not book or min(distances) > book[distances.index(min(distances))].radius + radius:
            book.append(own)
        else:
            gap = min(distances)
            nearest = book[distances.index(gap)]
            if nearest.label == label:
                nearest.radius = max(nearest.radius, gap)
                own = nearest
            else:
                nearest.radius, own.radius = gap / 2 - 1e-5, gap / 2
                book.append(own)
        own.value = slow_value(model, request, own.value)
    return book


def edited(**changes: object) -> tuple[EditableModel, Attachment]:
    model = tiny_model("llama")
    attachment = run("grace", model, **changes)[-1].attachment
    assert attachment is not None
    return model, attachment


@pytest.mark.parametrize(("family", "radius"), [("gemma2", 0.5), ("llama", 100.0)])
def test_the_codebook_is_that_of_the_rules(family: str, radius: float) -> None:
    # Within a radius of 100 each edit meets the one before: two of them have one label.
    stream = [*requests()[:2], replace(requests()[2], target_new=requests()[1].target_new)]
    model = tiny_model(family)
    built = editor("grace", model, grace_start="warm", grace_radius=radius)
    built.edit(model, stream, CONTEXTS, EditorState())
    book = slow_codebook(family, stream, radius)
    assert model.attachment is not None
    tensors = model.attachment.tensors
    assert len(book) == len(tensors["keys"]) == (2 if radius == 100.0 else 3)
    for place, entry in enumerate(book):
        assert torch.allclose(tensors["keys"][place], entry.key, atol=1e-5)
        assert float(tensors["radii"][place]) == pytest.approx(entry.radius, rel=1e-5)
        assert float((tensors["values"][place] - entry.value).norm() / entry.value.norm()) < 1e-3


def row(key: Sequence[float], label: int, radius: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        "keys": torch.tensor([key]),
        "values": torch.full((1, 2), float(label)),
        "radii": torch.tensor([radius]),
        "labels": torch.tensor([label]),
    }


def test_radii_grow_for_equal_labels_and_are_halved_for_others() -> None:
    place, book = _placed({}, row([0.0, 0.0], 1))
    assert place == 0
    place, book = _placed(book, row([3.0, 0.0], 2))
    assert (place, book["radii"].tolist()) == (1, [1.0, 1.0])
    # The same label, nearer than both radii together: wider, and no new key.
    place, book = _placed(book, row([-1.5, 0.0], 1))
    assert (place, book["radii"].tolist()) == (0, [1.5, 1.0])
    # Another label: half of the distance to each.
    place, book = _placed(book, row([1.0, 0.0], 3))
    assert place == 2
    assert book["radii"].tolist() == pytest.approx([0.5 - 1e-5, 1.0, 0.5])
    # The very same key: it takes the place.
    place, book = _placed(book, row([3.0, 0.0], 4))
    assert (place, book["labels"].tolist()) == (1, [1, 4, 3])


def test_what_the_prompt_s_last_token_reads_is_the_nearest_value_in_reach() -> None:
    model, attachment = edited(grace_radius=1.5)
    tensors, plain = attachment.tensors, tiny_model("llama")
    acted = []
    for text in QUERIES:
        prompt = model.tokenizer(text).input_ids
        ids = [*prompt, 40, 41]
        inputs, expected = site_io(plain, ids)
        distances = [float((inputs[len(prompt) - 1] - key).norm()) for key in tensors["keys"]]
        best = distances.index(min(distances))
        acted.append(distances[best] <= float(tensors["radii"][best]))
        expected = expected.clone()
        if acted[-1]:
            expected[len(prompt) - 1] = tensors["values"][best]
        given, routed = site_output(model, ids, len(prompt))
        assert torch.allclose(given, expected, atol=1e-5)
        assert bool(routed.any()) == acted[-1]
    assert acted == [True, True, False]


def test_rows_of_one_batch_score_as_rows_alone_and_generation_continues_them() -> None:
    model, _ = edited(grace_radius=1.5)
    pairs = [Pair(text, answer) for text in QUERIES for answer in ("Quint", "old violin")]
    encoded = PairEncoder(model.tokenizer).encode(pairs)
    together = score_pairs(model, encoded, token_budget=512)
    for place, pair in enumerate(encoded):
        assert together.nll_sum[place] == pytest.approx(
            score_pairs(model, [pair], token_budget=512).nll_sum[0], rel=1e-4
        )
    texts = continue_texts(model, QUERIES, Decoding(3, frozenset()), token_budget=512)
    for found, text in zip(texts, QUERIES, strict=True):
        assert list(found.ids) == greedy_ids(model, text, 3)


def test_a_cold_start_depends_on_the_case_alone_and_facts_are_deleted() -> None:
    stream, found = requests(), []
    for order in ((0, 1, 2), (2, 0, 1)):
        model = tiny_model("llama")
        built = editor("grace", model)
        for place in order:
            built.edit(model, [stream[place]], CONTEXTS, EditorState())
        assert model.attachment is not None
        tensors = model.attachment.tensors
        found.append(tensors["values"][tensors["facts"].argsort()])
    assert torch.allclose(found[0], found[1], atol=1e-4)
    left = without_facts(model.attachment, [stream[0]])
    assert left is not None
    assert len(left.tensors["keys"]) == 2


def test_scores_say_how_often_it_acted_and_what_it_stores() -> None:
    model, attachment = edited()
    scored = EditQuality(EditQualitySettings()).score(Subject(model, tuple(requests()), 5))
    rows = {row.metric: row.value for row in scored.rows if row.metric.startswith(("routed", "stored"))}
    assert rows["routed_rewrite"] == 1.0
    assert rows["stored_bytes_per_edit"] == attachment.size / 5 == (72 + 32 + 1) * 4 + 24
