"""Retrieval against its formula written out: features, cosines, and the row that is read."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from method_parts import editor, run
from serac_parts import encoder_folder
from tiny_models import CONTEXTS, requests, tiny_model, tokenizer
from transformers import BertModel

from evaluators.edit_quality.encoding import Pair, PairEncoder
from evaluators.edit_quality.pair_scores import score_pairs
from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.companion_folders import encoder_digest, with_companions
from sphere_core.editors.memory.facts import without_facts
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest

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


def slow_sentence_feature(folder: Path, text: str, pooling: str) -> torch.Tensor:
    with torch.no_grad():
        states = BertModel.from_pretrained(folder)(torch.tensor([tokenizer(adds_bos=True)(text).input_ids]))
    return states.last_hidden_state[0, 0] if pooling == "cls_token" else states.last_hidden_state[0].mean(dim=0)


@pytest.mark.parametrize("pooling", [None, "mean_tokens", "cls_token"])
def test_a_sentence_encoder_s_features_decide_in_place_of_the_model_s(pooling: str | None, tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "encoder")
    if pooling:
        (folder / "1_Pooling").mkdir()
        modes = {f"pooling_mode_{name}": name == pooling for name in ("cls_token", "mean_tokens", "max_tokens")}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    known = [slow_sentence_feature(folder, request.question, pooling or "") for request in requests()]

    def nearest(text: str) -> tuple[float, EditRequest]:
        mine = slow_sentence_feature(folder, text, pooling or "")
        cosines = [float(torch.nn.functional.cosine_similarity(mine, other, dim=0)) for other in known]
        best = max(range(len(known)), key=cosines.__getitem__)
        return cosines[best], requests()[best]

    # Between two of the queries: some are routed, some are not.
    threshold = fmean(sorted(nearest(text)[0] for text in QUERIES)[1:3])
    model = tiny_model("llama")
    run("retrieve", model, memory_threshold=threshold, retrieve_encoder=str(folder))
    for text in QUERIES:
        ids = tuple(model.tokenizer(text).input_ids)
        cosine, request = nearest(text)
        front = f"{request.question} {request.target_new}.\n" if cosine > threshold else ""
        assert model.tokenizer.decode(model.rewritten(ids, len(ids))[1:]) == front + text


def test_the_encoder_is_part_of_what_is_scored_and_its_place_is_not(tmp_path: Path) -> None:
    for name in ("encoder", "moved"):
        encoder_folder(tmp_path / name)
    own, moved = (
        with_companions(
            build_hyperparameters(
                {"layers": [1], "memory_threshold": 0.8, "retrieve_encoder": name}, where="w", rows=("retrieve",)
            ),
            tmp_path,
        )
        for name in ("encoder", "moved")
    )
    assert own.identity() == moved.identity()
    assert own.identity() != own.model_copy(update={"retrieve_encoder": None, "retrieve_digest": None}).identity()
    pooling = tmp_path / "encoder" / "1_Pooling" / "config.json"
    pooling.parent.mkdir()
    pooling.write_text('{"pooling_mode_cls_token": true}')
    assert encoder_digest(str(tmp_path / "encoder")) != own.retrieve_digest
    with pytest.raises(InputError, match="another content"):
        with_companions(own, tmp_path)
    pooling.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(InputError, match="pools by max_tokens"):
        encoder_digest(str(tmp_path / "encoder"))
    model = tiny_model("llama")
    run("retrieve", model, memory_threshold=0.8, retrieve_encoder=str(tmp_path / "moved"))
    assert model.attachment is not None
    (tmp_path / "moved" / "config.json").write_text((tmp_path / "moved" / "config.json").read_text() + " ")
    with pytest.raises(InputError, match="not the one that the edits were made with"):
        tiny_model("llama").attach(model.attachment)
