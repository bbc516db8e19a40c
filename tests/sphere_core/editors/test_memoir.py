"""MEMOIR against its formulas written out: features, masks, the memory after each edit, and what every token reads."""

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
from evaluators.geometry.hidden_states import HiddenStates
from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import without_facts
from sphere_core.editors.memory.prompt_masks import nearest_mask, packed, prompt_masks, unpacked
from sphere_core.foundation.errors import InputError
from sphere_core.locate.edit_keys import EditKeys
from sphere_core.locate.prompts import opening_tokens, target_ids
from sphere_core.models import EditableModel
from sphere_core.models.attachments import Attachment
from sphere_core.requests import EditRequest

KEEP, RATE, DECAY, STEPS = 16, 1.0, 1e-3, 8
QUERIES = ["Mira Solen lives in the town of", "Mira Solen lives in", "The violin of Dario Venn is", "The"]


def mask_of(model: EditableModel, prompt: list[int], tensors: dict[str, torch.Tensor]) -> set[int]:
    """M(f) as the set of its places, from the definition."""
    tokens = site_io(model, prompt)[0][len(opening_tokens(model.tokenizer)) :]
    feature = [float(sum(column)) / len(tokens) for column in tokens.T]
    size = [abs(value - float(mean)) for value, mean in zip(feature, tensors["shared/background"], strict=True)]
    largest = sorted(range(len(size)), key=lambda place: -size[place])[:KEEP]
    return {int(tensors["shared/order"][place]) for place in largest}


def slow_loss(model: EditableModel, request: EditRequest, memory: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean NLL of the target over contexts, each by a whole forward of its own with the memory added by a hook."""
    target = target_ids(model.tokenizer, request)
    total = torch.zeros(())
    contexts = [context for group in CONTEXTS for context in group]

    def add(_: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output + (args[0] * mask) @ memory.T

    for context in contexts:
        prompt = model.tokenizer(context.replace("{}", request.question)).input_ids
        handle = site_of(model).register_forward_hook(add)
        logs = model.network(input_ids=torch.tensor([[*prompt, *target]])).logits[0].log_softmax(dim=-1)
        handle.remove()
        for place, token in enumerate(target):
            total = total - logs[len(prompt) - 1 + place, token] / (len(target) * len(contexts))
    return total


def slow_memory(family: str, tensors: dict[str, torch.Tensor], count: int) -> tuple[torch.Tensor, list[set[int]]]:
    """W_m after `count` edits, and their masks, one torch.optim.SGD an edit over all of W_m."""
    model = tiny_model(family)
    memory = torch.zeros(32, 72, requires_grad=True)
    masks = []
    for request in requests()[:count]:
        places = mask_of(model, model.tokenizer(request.question).input_ids, tensors)
        masks.append(places)
        mask = torch.tensor([float(place in places) for place in range(72)])
        optimizer = torch.optim.SGD([memory], RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            optimizer.zero_grad()
            slow_loss(model, request, memory, mask).backward()
            torch.nn.utils.clip_grad_norm_([memory], 1.0)
            optimizer.step()
    return memory.detach(), masks


def edited(family: str = "llama", **changes: float) -> tuple[EditableModel, Attachment]:
    model = tiny_model(family, positions=128)
    attachment = run("memoir", model, **changes)[-1].attachment
    assert attachment is not None
    return model, attachment


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_memory_and_masks_are_those_of_the_formulas(family: str) -> None:
    model = tiny_model(family)
    # No stop: the number of steps is the slow form's.
    attachment = run("memoir", model, count=2, memory_stop_loss=0.0)[-1].attachment
    assert attachment is not None
    tensors = dict(attachment.tensors)
    memory, masks = slow_memory(family, tensors, 2)
    found = [{int(place) for place in mask.nonzero()} for mask in unpacked(tensors["masks"], 72)]
    assert found == masks
    assert float((tensors["shared/memory"] - memory).norm() / memory.norm()) < 1e-4
    assert float(memory.norm()) > 0.1


def test_what_every_token_reads_is_the_formula_s() -> None:
    model, attachment = edited()
    tensors = dict(attachment.tensors)
    stored = [{int(place) for place in mask.nonzero()} for mask in unpacked(tensors["masks"], 72)]
    plain = tiny_model("llama")
    acted = []
    for text in QUERIES:
        prompt = model.tokenizer(text).input_ids
        ids = [*prompt, 40, 41]
        mine = mask_of(plain, prompt, tensors)
        shares = [len(mine & other) / KEEP for other in stored]
        best = max(range(len(stored)), key=shares.__getitem__)
        inputs = site_io(plain, ids)[0]
        expected = site_of(plain)(inputs).detach()
        acted.append(shares[best] >= 0.5)
        if acted[-1]:
            mask = torch.tensor([float(place in stored[best]) for place in range(72)])
            expected = expected + (inputs * mask) @ tensors["shared/memory"].T
        given, routed = site_output(model, ids, len(prompt))
        assert torch.allclose(given, expected, atol=1e-5)
        assert bool(routed.all()) == bool(routed.any()) == acted[-1]
    assert acted[0]
    assert not all(acted)


def test_masks_survive_packing_and_the_nearest_is_found_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sphere_core.editors.memory.prompt_masks._MASKS_AT_ONCE", 4)
    generator = torch.Generator().manual_seed(0)
    features, order = torch.randn(19, 45, generator=generator), torch.randperm(45, generator=generator)
    masks = prompt_masks(features, order, 9)
    assert masks.sum(dim=1).tolist() == [9] * 19
    assert torch.equal(unpacked(packed(masks), 45), masks)
    shared, nearest = nearest_mask(masks[:5], packed(masks[3:]))
    for row in range(5):
        counts = [int((masks[row] & other).sum()) for other in masks[3:]]
        assert int(shared[row]) == max(counts)
        assert int(nearest[row]) == counts.index(max(counts))


def test_rows_that_do_not_say_where_their_prompt_ends_are_refused_and_whole_texts_are_unedited() -> None:
    model, _ = edited()
    ids = torch.tensor([model.tokenizer(requests()[0].question).input_ids])
    with torch.no_grad():
        with pytest.raises(InputError, match="do not say where theirs end"):
            model.network(input_ids=ids)
        with model.reading():
            answer = model.network(input_ids=ids).logits
        assert torch.equal(answer, tiny_model("llama", positions=128).network(input_ids=ids).logits)


def test_rows_of_one_batch_score_as_rows_alone_and_generation_continues_them() -> None:
    model, _ = edited()
    pairs = [Pair(text, answer) for text in QUERIES for answer in ("Quint", "old violin", "Quint and Harbel")]
    encoded = PairEncoder(model.tokenizer).encode(pairs)
    together = score_pairs(model, encoded, token_budget=512)
    for place, pair in enumerate(encoded):
        alone = score_pairs(model, [pair], token_budget=512)
        assert together.nll_sum[place] == pytest.approx(alone.nll_sum[0], rel=1e-4)
        assert together.routed is not None
        assert alone.routed is not None
        assert together.routed[place] == alone.routed[0]
    # Batched on the left, with a cache, against whole forwards of one row.
    for found, text in zip(
        continue_texts(model, QUERIES, Decoding(4, frozenset()), token_budget=512), QUERIES, strict=True
    ):
        assert list(found.ids) == greedy_ids(model, text, 4)


def test_a_deleted_fact_is_not_answered_and_a_later_one_takes_its_place() -> None:
    model, stream = tiny_model("llama"), requests()
    built = editor("memoir", model, memory_threshold=1.0)
    built.edit(model, stream[:3], CONTEXTS, EditorState())
    built.edit(model, [stream[1]], CONTEXTS, EditorState())
    assert model.attachment is not None
    assert len(model.attachment.tensors["facts"]) == len(model.attachment.tensors["masks"]) == 3
    model.attach(without_facts(model.attachment, [stream[1]]))
    for place, request in enumerate(stream[:3]):
        ids = torch.tensor([model.tokenizer(request.question).input_ids])
        with torch.no_grad(), model.reading(ends=torch.tensor([ids.shape[1]])) as reading:
            model.network(input_ids=ids)
        assert reading.routed is not None
        assert bool(reading.routed.any()) == (place != 1)


def test_scores_say_how_often_it_acted_and_what_it_stores() -> None:
    model, attachment = edited()
    scored = EditQuality(EditQualitySettings()).score(Subject(model, tuple(requests()), 5))
    rows = {row.metric: row.value for row in scored.rows if row.metric.startswith(("routed", "stored"))}
    assert rows["routed_rewrite"] == 1.0
    matrices = 4 * (32 * 72 + 72) + 8 * 72
    assert rows["stored_bytes_per_edit"] == attachment.size / 5 == matrices / 5 + 9 + 16


def test_keys_and_hidden_states_are_read_of_a_model_with_a_memory() -> None:
    model, _ = edited()
    found = []
    for place in range(2):
        keys = EditKeys.empty()
        if place:
            model.attach(None)
        keys.note(model, [1], 1, requests(), CONTEXTS)
        found.append(keys.encode())
    assert found[0] == found[1]
    model, _ = edited()
    prompts = (requests()[0].question, "The", "Ilka Torm plays the")
    rows = {row.metric: row.value for row in HiddenStates(prompts).score(Subject(model, tuple(requests()), 5))}
    assert rows["hidden_shift"] is not None
    assert rows["hidden_shift"] > 0
