"""SERAC against its decision rule and both models' own forwards written out."""

import math
from pathlib import Path

import pytest
import torch
from memory_parts import greedy_ids
from method_parts import editor, run
from serac_parts import serac_folders
from tiny_models import CONTEXTS, requests, tiny_model, tokenizer
from transformers import AutoModelForCausalLM, BertModel

from evaluators.base import Subject
from evaluators.edit_quality.encoding import Pair, PairEncoder
from evaluators.edit_quality.evaluator import EditQuality
from evaluators.edit_quality.generation import Decoding, continue_texts
from evaluators.edit_quality.pair_scores import score_pairs
from evaluators.edit_quality.settings import EditQualitySettings
from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.companion_folders import require_same_tokens, with_companions
from sphere_core.editors.memory.companions import load_encoder
from sphere_core.editors.memory.facts import without_facts
from sphere_core.editors.memory.serac import Serac
from sphere_core.editors.memory.serac_training import SeracRates, counterfactual_loss, scope_loss, trainable
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, Probe

QUERIES = [
    "Mira Solen lives in the town of",
    "Mira Solen lives in",
    "Ilka Torm plays the",
    "The violin of Dario Venn is",
    "Dario Venn works as a baker",
]


def slow_feature(network: BertModel, text: str) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=torch.tensor([tokenizer(adds_bos=True)(text).input_ids])).last_hidden_state[0, 0]


def slow_entry(text: str, threshold: float) -> int | None:
    """The edit in whose scope a prompt lies: features of single texts, distances one by one."""
    network = BertModel.from_pretrained(serac_folders()[0]).eval()
    query = slow_feature(network, text)
    values = [math.exp(-float((query - slow_feature(network, r.question)).square().sum())) for r in requests()]
    best = max(range(len(values)), key=values.__getitem__)
    return best if values[best] > threshold else None


def edited(family: str, threshold: float) -> tuple[EditableModel, Serac]:
    model = tiny_model(family)
    run("serac", model, memory_threshold=threshold)
    assert model.attachment is not None
    mechanism = Serac(model, model.attachment)
    return model, mechanism


def answering_ids(model: EditableModel, ids: list[int], entry: int, opening: int) -> list[int]:
    """What the counterfactual model reads."""
    request = requests()[entry]
    sentence = model.tokenizer(f"{request.question} {request.target_new}.\n").input_ids[opening:]
    return [*ids[:opening], *sentence, *ids[opening:]]


@pytest.mark.parametrize(("family", "opening"), [("llama", 1), ("gpt2", 0)])
@pytest.mark.parametrize("threshold", [0.02, 0.5])
def test_logits_are_those_of_the_rule(family: str, opening: int, threshold: float) -> None:
    model, _ = edited(family, threshold)
    plain = tiny_model(family).network
    other = AutoModelForCausalLM.from_pretrained(serac_folders()[1])
    chosen = [slow_entry(text, threshold) for text in QUERIES]
    assert chosen[0] == 0
    assert None in chosen or threshold < 0.5
    assert {place for place in chosen if place is not None} != {0} or threshold > 0.02
    for text, entry in zip(QUERIES, chosen, strict=True):
        prompt = list(model.tokenizer(text).input_ids)
        ids = [*prompt, 40, 41]
        with torch.no_grad():
            with model.reading(ends=torch.tensor([len(prompt)])) as reading:
                mine = model.network(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 :]
            if entry is None:
                expected = plain(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 :]
            else:
                read = answering_ids(model, ids, entry, opening)
                expected = other(input_ids=torch.tensor([read])).logits[0, -3:]
        assert reading.routed is not None
        assert bool(reading.routed.any()) == (entry is not None)
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


def test_scores_and_continuations_are_those_of_single_rows() -> None:
    model, _ = edited("llama", 0.5)
    pairs = [Pair(text, target) for text in QUERIES for target in ("Quint", "old violin")]
    found = score_pairs(model, PairEncoder(model.tokenizer).encode(pairs), token_budget=64)
    assert found.routed is not None
    assert 0 < found.routed.sum() < len(pairs)
    for place, pair in enumerate(PairEncoder(model.tokenizer).encode(pairs)):
        alone = score_pairs(model, [pair], token_budget=64)
        assert found.nll_sum[place] == pytest.approx(alone.nll_sum[0], rel=1e-4)
    texts = continue_texts(model, QUERIES, Decoding(4, frozenset()), token_budget=256)
    assert [list(text.ids) for text in texts] == [greedy_ids(model, text, 4) for text in QUERIES]


def test_whole_texts_are_the_unedited_model_s_and_unsaid_prompts_are_refused() -> None:
    model, _ = edited("llama", 0.5)
    ids = torch.tensor([model.tokenizer(QUERIES[0]).input_ids])
    with torch.no_grad(), model.reading():
        assert torch.equal(model.network(input_ids=ids).logits, tiny_model("llama").network(input_ids=ids).logits)
    with pytest.raises(InputError, match="where theirs end"):
        model.network(input_ids=ids)


def test_shares_by_role_and_facts_that_are_replaced_and_deleted() -> None:
    model = tiny_model("llama")
    stream = requests()[:3]
    built = editor("serac", model)
    built.edit(model, stream, CONTEXTS, EditorState())
    rows = EditQuality(EditQualitySettings()).score(Subject(model, tuple(stream), 3)).rows
    (share,) = {row.value for row in rows if row.metric == "routed_rewrite"}
    assert share == 1.0
    assert model.attachment is not None
    (stored,) = [row.value for row in rows if row.metric == "stored_bytes_per_edit"]
    assert stored == pytest.approx(model.attachment.size / 3)
    built.edit(model, stream[1:2], CONTEXTS, EditorState())
    assert len(model.attachment.tensors["facts"]) == 3
    model.attach(without_facts(model.attachment, stream[:1]))
    assert model.attachment is not None
    left = Serac(model, model.attachment)
    asked = [tuple(model.tokenizer(request.question).input_ids[1:]) for request in stream]
    assert left.entry_of(asked[1]) != left.entry_of(asked[2]) != -1


def test_losses_are_those_of_their_formulas() -> None:
    probes = [
        (Probe("paraphrase", f"{r.subject}, so", r.target_new), Probe("neighborhood", f"Far {i}", "x"))
        for i, r in enumerate(requests())
    ]
    edits = trainable(
        [
            EditRequest(r.case_id, r.prompt, r.subject, r.target_new, None, p)
            for r, p in zip(requests(), probes, strict=True)
        ]
    )
    rates = SeracRates(steps=1, batch_size=5, lr=1e-3, seed=0)
    encoder = load_encoder(serac_folders()[0], torch.device("cpu"))
    network = BertModel.from_pretrained(serac_folders()[0]).eval()
    near, far = [], []
    for mine in edits:
        for yours in edits:
            apart = float(
                (slow_feature(network, mine.within[0]) - slow_feature(network, yours.request.question)).square().sum()
            )
            (near if mine is yours else far).append(apart)
        far.append(
            float(
                (slow_feature(network, mine.outside[0]) - slow_feature(network, mine.request.question)).square().sum()
            )
        )
    expected = sum(near) / 5 - sum(math.log(max(1 - math.exp(-apart), 1e-6)) for apart in far) / len(far)
    assert float(scope_loss(encoder, edits, rates, 1)) == pytest.approx(expected, rel=1e-4)
    model, total = tiny_model("llama", seed=7, layers=2), 0.0
    for mine in edits:
        read = model.tokenizer(f"{mine.request.question} {mine.request.target_new}.\n").input_ids
        read += model.tokenizer(mine.within[0]).input_ids[1:]
        target = model.tokenizer(f"{mine.within[0]} {mine.request.target_new}").input_ids
        target = target[len(model.tokenizer(mine.within[0]).input_ids) :]
        with torch.no_grad():
            logs = model.network(input_ids=torch.tensor([[*read, *target]])).logits[0].log_softmax(-1)
        total -= sum(float(logs[len(read) - 1 + k, token]) for k, token in enumerate(target)) / len(target)
    assert float(counterfactual_loss(model, edits, rates, 1)) == pytest.approx(total / 5, rel=1e-4)


def test_folders_are_named_by_their_content_and_refused_with_a_remedy(tmp_path: Path) -> None:
    classifier, counterfactual = serac_folders()
    given = {"layers": [1], "memory_threshold": 0.5, "serac_classifier": classifier}
    bare = build_hyperparameters(given, where="test")
    with pytest.raises(InputError, match="serac_counterfactual") as refused:
        resolve_method("serac").check(bare, where="test")
    assert "sphere serac train" in str(refused.value)
    whole = build_hyperparameters({**given, "serac_counterfactual": counterfactual}, where="test")
    located = with_companions(whole, tmp_path)
    assert located.identity()["serac_digest"] == located.serac_digest
    assert not any(str(value).startswith("/") for value in located.identity().values())
    (tmp_path / "here").symlink_to(classifier)
    moved = with_companions(whole.model_copy(update={"serac_classifier": "here"}), tmp_path)
    assert moved.identity() == located.identity()
    with pytest.raises(InputError, match="no such folder") as missing:
        with_companions(whole.model_copy(update={"serac_classifier": "gone"}), tmp_path)
    assert "sphere serac train" in str(missing.value)
    with pytest.raises(InputError, match="another content"):
        with_companions(whole.model_copy(update={"serac_digest": "0" * 64}), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    with pytest.raises(InputError, match="another tokenizer"):
        require_same_tokens(located, other)
    require_same_tokens(located, Path(counterfactual))
