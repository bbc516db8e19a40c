"""Retrieval against its formula written out: features, cosines, and the row that is read."""

from dataclasses import replace

import pytest
import torch
from method_parts import editor, run
from tiny_models import CONTEXTS, requests, tiny_model

from evaluators.edit_quality.encoding import Pair, PairEncoder
from evaluators.edit_quality.pair_scores import score_pairs
from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import without_facts
from sphere_core.models import EditableModel

QUERIES = [
    "Mira Solen lives in the town of",
    "Mira Solen lives in",
    "Ilka Torm plays the",
    "The violin of Dario Venn is",
]


def feature(model: EditableModel, ids: list[int], opening: int) -> torch.Tensor:
    """The mean of the site's inputs, from a whole forward with a hook of its own."""
    seen: list[torch.Tensor] = []
    module = model.network.get_submodule(model.family.site_path(1))
    handle = module.register_forward_hook(lambda _, args, __: seen.append(args[0][0]))
    with torch.no_grad():
        model.network(input_ids=torch.tensor([ids]))
    handle.remove()
    tokens = seen[0][opening:]
    return sum(tokens[1:], tokens[0]) / len(tokens)


@pytest.mark.parametrize(("family", "opening"), [("llama", 1), ("gpt2", 0)])
@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_the_row_that_is_read_is_the_formula_s(family: str, opening: int, threshold: float) -> None:
    model = tiny_model(family)
    run("retrieve", model, memory_threshold=threshold)
    known = []
    for request in requests():
        sentence = model.tokenizer(f"{request.question} {request.target_new}.\n").input_ids[opening:]
        known.append((feature(model, model.tokenizer(request.question).input_ids, opening), sentence))
    for text in QUERIES:
        ids = model.tokenizer(text).input_ids
        mine = feature(model, ids, opening)
        cosines = [float(mine @ other / (mine.norm() * other.norm())) for other, _ in known]
        best = max(range(len(known)), key=cosines.__getitem__)
        front = known[best][1] if cosines[best] > threshold else []
        # What follows the prompt changes nothing of the choice.
        for after in ([], [40, 41]):
            expected = (*ids[:opening], *front, *ids[opening:], *after)
            assert model.rewritten((*ids, *after), len(ids)) == expected


def test_a_threshold_of_one_reads_every_prompt_as_it_is() -> None:
    model = tiny_model("llama")
    run("retrieve", model, memory_threshold=1.0)
    for request in requests():
        ids = tuple(model.tokenizer(request.question).input_ids)
        assert model.rewritten(ids, len(ids)) == ids


def test_scores_are_those_of_the_text_with_the_sentence_before_it() -> None:
    model, pair = tiny_model("llama"), Pair(requests()[0].question, "Quint")
    (encoded,) = PairEncoder(model.tokenizer).encode([pair])
    sentence = model.tokenizer(f"{requests()[0].question} {requests()[0].target_new}.\n").input_ids[1:]
    ids = [encoded.ids[0], *sentence, *encoded.ids[1:]]
    with torch.no_grad():
        logs = model.network(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    count = len(encoded.targets)
    expected = -sum(float(logs[place - 1, ids[place]]) for place in range(len(ids) - count, len(ids)))
    run("retrieve", model)
    assert score_pairs(model, [encoded], token_budget=64).nll_sum[0] == pytest.approx(expected, rel=1e-5)


def test_facts_are_replaced_and_deleted() -> None:
    model, stream = tiny_model("llama", positions=128), requests()
    built = editor("retrieve", model)
    built.edit(model, stream[:3], CONTEXTS, EditorState())
    # A longer sentence than all before it.
    again = replace(stream[1], case_id="again", target_new="Harbel, because it was so far from Quint")
    built.edit(model, [again], CONTEXTS, EditorState())
    assert model.attachment is not None
    assert len(model.attachment.tensors["facts"]) == 3
    ids = tuple(model.tokenizer(stream[1].question).input_ids)
    assert "so far from Quint" in model.tokenizer.decode(model.rewritten(ids, len(ids)))
    model.attach(without_facts(model.attachment, [again]))
    assert "so far from Quint" not in model.tokenizer.decode(model.rewritten(ids, len(ids)))
