"""NeuralDB against its formula, token by token; facts added, replaced and deleted; what its scores say."""

from dataclasses import replace

import pytest
import torch
from method_parts import editor, run
from tiny_models import CONTEXTS, requests, tiny_model

from evaluators.base import Subject
from evaluators.edit_quality import pair_scores
from evaluators.edit_quality.encoding import EncodedPair, Pair, PairEncoder
from evaluators.edit_quality.evaluator import EditQuality
from evaluators.edit_quality.generation import Decoding, continue_texts
from evaluators.edit_quality.settings import EditQualitySettings
from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import without_facts
from sphere_core.foundation.errors import InputError
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.models.attachments import Attachment


def edited(family: str = "llama", **changes: float) -> tuple[EditableModel, Attachment]:
    model = tiny_model(family)
    attachment = run("neuraldb", model, **changes)[-1].attachment
    assert attachment is not None
    return model, attachment


def site_io(model: EditableModel, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The site's inputs and what its module returns, `[T, d]` and `[T, o]`."""
    seen: list[torch.Tensor] = []
    module = model.network.get_submodule(model.open_sites([1])[0].module_path)
    handle = module.register_forward_hook(lambda _, args, out: seen.extend([args[0][0], out[0]]))
    with torch.no_grad():
        model.network(input_ids=ids)
    handle.remove()
    return seen[0], seen[1]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_every_token_is_answered_as_the_formula_says(family: str, threshold: float) -> None:
    model, attachment = edited(family, memory_threshold=threshold)
    ids = torch.tensor([model.tokenizer("Mira Solen lives in the town of Harbel, because").input_ids])
    keys, outputs = site_io(model, ids)
    with model.detached():
        base_keys, plain = site_io(model, ids)
    # Only later layers could differ: below the site nothing is changed.
    assert torch.equal(keys, base_keys)
    known, residuals = attachment.tensors["keys"], attachment.tensors["residuals"]
    routed = 0
    for key, before, after in zip(keys, plain, outputs, strict=True):
        cosines = [float(key @ other / (key.norm() * other.norm())) for other in known]
        best = max(range(len(known)), key=cosines.__getitem__)
        expected = before + residuals[best] if cosines[best] > threshold else before
        routed += cosines[best] > threshold
        assert torch.equal(after, expected)
    assert 0 < routed < len(keys)


def test_an_exact_hit_gives_the_target_bit_for_bit() -> None:
    model, attachment = edited()
    (site,) = model.open_sites([1])
    batch = locate(model, requests(), CONTEXTS)
    with model.detached():
        plain = BatchWalk(model, batch, [site]).site_outputs(site)
        keys = BatchWalk(model, batch, [site]).bare_inputs(site)
    assert torch.equal(keys.T, attachment.tensors["keys"])
    targets = plain + attachment.tensors["residuals"].T
    assert torch.equal(BatchWalk(model, batch, [site]).site_outputs(site), targets)


def test_a_threshold_of_one_is_the_unedited_model() -> None:
    model, _ = edited(memory_threshold=1.0)
    ids = torch.tensor([model.tokenizer("Mira Solen lives in the town of").input_ids])
    with torch.no_grad():
        answer = model.network(input_ids=ids).logits
        assert torch.equal(answer, tiny_model("llama").network(input_ids=ids).logits)


def test_a_fact_is_added_replaced_and_deleted() -> None:
    model = tiny_model("llama")
    built, stream = editor("neuraldb", model), requests()
    state = built.edit(model, stream[:3], CONTEXTS, EditorState())
    three = model.attachment
    again = replace(stream[1], case_id="again", target_new="Harbel")
    built.edit(model, [again], CONTEXTS, state)
    replaced = model.attachment
    assert three is not None
    assert replaced is not None
    assert torch.equal(replaced.tensors["keys"][:2], three.tensors["keys"][[0, 2]])
    assert len(replaced.tensors["keys"]) == 3
    assert not torch.equal(replaced.tensors["residuals"][2], three.tensors["residuals"][1])
    # A request of other words that supersedes a case takes its place too.
    other = replace(stream[4], case_id="other", supersedes="again")
    built.edit(model, [other], CONTEXTS, state)
    assert model.attachment is not None
    assert len(model.attachment.tensors["keys"]) == 3
    left = without_facts(three, [stream[0], stream[2]])
    assert left is not None
    alone = tiny_model("llama")
    built.edit(alone, [stream[1]], CONTEXTS, EditorState())
    assert alone.attachment is not None
    for name, tensor in left.tensors.items():
        assert torch.allclose(tensor, alone.attachment.tensors[name], atol=1e-5), name
    assert without_facts(left, [stream[1]]) is None
    with pytest.raises(InputError, match="no such fact"):
        without_facts(left, [stream[0]])


def test_batches_and_order_do_not_matter() -> None:
    found = []
    for order, size in (([0, 1, 2, 3, 4], 5), ([3, 0, 4, 2, 1], 2)):
        model = tiny_model("llama")
        built, state = editor("neuraldb", model), EditorState()
        stream = [requests()[place] for place in order]
        for start in range(0, 5, size):
            state = built.edit(model, stream[start : start + size], CONTEXTS, state)
        assert model.attachment is not None
        tensors = model.attachment.tensors
        places = tensors["facts"].argsort()
        found.append({name: tensor[places] for name, tensor in tensors.items()})
    assert torch.equal(found[0]["facts"], found[1]["facts"])
    assert torch.allclose(found[0]["keys"], found[1]["keys"], atol=1e-5)
    assert torch.allclose(found[0]["residuals"], found[1]["residuals"], atol=1e-3)


def test_of_two_requests_for_one_fact_in_a_batch_the_later_holds() -> None:
    model = tiny_model("llama")
    first = requests()[0]
    later = replace(first, case_id="later", target_new="Ostrava")
    editor("neuraldb", model).edit(model, [first, later], CONTEXTS, EditorState())
    alone = tiny_model("llama")
    editor("neuraldb", alone).edit(alone, [later], CONTEXTS, EditorState())
    assert model.attachment is not None
    assert alone.attachment is not None
    assert torch.equal(model.attachment.tensors["facts"], alone.attachment.tensors["facts"])
    assert torch.allclose(model.attachment.tensors["residuals"], alone.attachment.tensors["residuals"], atol=1e-3)


def test_rows_in_trees_score_as_rows_alone() -> None:
    model, _ = edited(memory_threshold=0.3)
    pairs = [Pair("Mira Solen lives in the", answer) for answer in ("town of Quint", "town of Harbel", "violin")]
    pairs += [Pair("Dario Venn works as a baker in", answer) for answer in ("Quint", "Harbel")]
    encoded: list[EncodedPair] = PairEncoder(model.tokenizer).encode(pairs * 3)
    together = pair_scores.score_pairs(model, encoded, token_budget=512)
    for place, pair in enumerate(encoded):
        alone = pair_scores.score_pairs(model, [pair], token_budget=512)
        assert together.nll_sum[place] == pytest.approx(alone.nll_sum[0], rel=1e-4)
        assert together.routed is not None
        assert alone.routed is not None
        assert together.routed[place] == alone.routed[0]


def test_scores_say_how_often_it_acted_and_what_it_stores() -> None:
    model, attachment = edited()
    scored = EditQuality(EditQualitySettings()).score(Subject(model, tuple(requests()), 5))
    rows = {row.metric: row for row in scored.rows if row.metric.startswith(("routed", "stored"))}
    assert rows["routed_rewrite"].value == 1.0
    assert rows["routed_rewrite"].higher_is_better is None
    assert rows["stored_bytes_per_edit"].value == attachment.size / 5 == (72 + 32) * 4 + 16
    model.restore_base()
    scored = EditQuality(EditQualitySettings()).score(Subject(model, tuple(requests()), 5))
    assert not [row for row in scored.rows if row.metric.startswith(("routed", "stored"))]


def test_generation_with_a_cache_says_what_whole_forwards_say() -> None:
    model, _ = edited(memory_threshold=0.5)
    text = "Mira Solen lives in the town of"
    (found,) = continue_texts(model, [text], Decoding(4, frozenset()), token_budget=64)
    ids = list(model.tokenizer(text).input_ids)
    for _ in range(4):
        with torch.no_grad():
            ids.append(int(model.network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert list(found.ids) == ids[-4:]


@pytest.mark.parametrize("name", ["neuraldb+sphere", "neuraldb+prune", "neuraldb+gate"])
def test_it_has_no_update_to_regularize(name: str) -> None:
    with pytest.raises(InputError, match="changes no weight"):
        resolve_method(name)
