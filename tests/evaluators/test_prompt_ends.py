"""Readings say where prompts end: probes, free generation and requests of the harness, in any batches."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from eval_parts import golden_requests, tiny_llama
from lm_eval.api.instance import Instance
from routing_parts import BY_END, IN_FRONT, know_mechanisms
from task_parts import READING, evaluator, know_folder, named

from evaluators.base import Subject
from evaluators.edit_quality.encoding import Reading
from evaluators.edit_quality.generation import Decoding, continue_texts
from evaluators.edit_quality.pair_scores import score_pairs
from evaluators.general.guarded_lm import Encodings, GuardedHFLM, guarded_lm, tokenizer_for_harness
from sphere_core.foundation.errors import InputError
from sphere_core.models import EditableModel

ROW = (3, 40, 41, 42, 43, 44, 45)


@pytest.fixture(scope="module")
def loaded() -> EditableModel:
    return tiny_llama()


@pytest.fixture
def model(loaded: EditableModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[EditableModel]:
    know_mechanisms(monkeypatch)
    yield loaded
    loaded.restore_base()


def asked(inputs: tuple[int, ...], prompt_end: int, targets: tuple[int, ...]) -> Any:
    return SimpleNamespace(readings=(Reading(inputs, prompt_end - 1, targets, prompt_end),))


def lm(model: EditableModel, batch_size: int = 4) -> GuardedHFLM:
    return guarded_lm(model, tokenizer_for_harness(model.tokenizer), Encodings(), batch_size=batch_size)


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, given, place) for place, given in enumerate(arguments)]


def test_equal_ids_with_other_prompts_are_other_rows(model: EditableModel) -> None:
    pairs = [asked(ROW, 3, (7,)), asked(ROW, 5, (7,)), asked(ROW[:5], 3, (7,)), asked(ROW, 3, (8,))]
    plain = score_pairs(model, pairs, token_budget=64)
    model.attach(BY_END)
    together = score_pairs(model, pairs, token_budget=64)
    alone = [score_pairs(model, [pair], token_budget=64).nll_sum[0] for pair in pairs]
    assert np.allclose(together.nll_sum, alone, rtol=1e-5)
    assert (abs(together.nll_sum - plain.nll_sum) > 1e-3).all()
    # Causal: what comes after position 2 does not matter, the place of the prompt's end does.
    assert together.nll_sum[0] == pytest.approx(together.nll_sum[2], rel=1e-5)


def test_a_rewritten_prompt_is_scored_where_its_targets_are(model: EditableModel) -> None:
    ids = tuple(IN_FRONT.tensors["ids"].tolist())
    pairs = [asked(ROW, 3, (7, 8)), asked(ROW, 5, (7,))]
    longer = [asked((*ids, *ROW), 6, (7, 8)), asked((*ids, *ROW), 8, (7,))]
    expected = score_pairs(model, longer, token_budget=64)
    model.attach(IN_FRONT)
    found = score_pairs(model, pairs, token_budget=64)
    assert np.array_equal(found.nll_sum, expected.nll_sum)
    assert found.routed is not None
    assert found.routed.all()
    positions = model.network.config.max_position_embeddings
    with pytest.raises(InputError, match="what is put before it"):
        score_pairs(model, [asked((5,) * positions, 3, (7,))], token_budget=64)


def test_generation_routes_by_the_prompt_alone(model: EditableModel) -> None:
    texts = [request.question for request in golden_requests()[:4]]
    decoding = Decoding(3, frozenset())
    plain = continue_texts(model, texts, decoding, token_budget=512)
    model.attach(BY_END)
    together = continue_texts(model, texts, decoding, token_budget=512)
    alone = [continue_texts(model, [text], decoding, token_budget=512)[0] for text in texts]
    assert [one.ids for one in together] == [one.ids for one in alone]
    assert [one.ids for one in together] != [one.ids for one in plain]


def test_the_harness_shares_no_row_between_prompts(model: EditableModel) -> None:
    words = model.tokenizer.decode(list(ROW[1:]))
    context, longer = words[:-6], words[:-3]
    given = requests("loglikelihood", (context, words[-6:]), (longer, words[-3:]), (context, words[-6:-2]))
    plain = [score for score, _ in lm(model).loglikelihood(given)]
    whole = requests("loglikelihood_rolling", (words,), (longer,))
    rolled = lm(model).loglikelihood_rolling(whole)
    model.attach(BY_END)
    together = [score for score, _ in lm(model).loglikelihood(given)]
    alone = [lm(model, 1).loglikelihood([one])[0][0] for one in given]
    assert together == pytest.approx(alone, rel=1e-4)
    assert all(abs(one - other) > 1e-3 for one, other in zip(together, plain, strict=True))
    # Whole texts have no prompt.
    assert lm(model).loglikelihood_rolling(whole) == rolled


def test_the_harness_reads_and_continues_rewritten_prompts(model: EditableModel) -> None:
    front = model.tokenizer.decode(IN_FRONT.tensors["ids"].tolist())
    context, options = golden_requests()[0].question, {"until": ["."], "max_gen_toks": 3, "do_sample": False}
    contexts = [context, golden_requests()[1].question]
    plain = lm(model)
    ids = {text: plain.tok_encode(text) for text in contexts}
    rows = [(("", ""), [*IN_FRONT.tensors["ids"].tolist(), *ids[text]], [50, 51]) for text in contexts]
    expected = plain._loglikelihood_tokens(rows)
    told = [continuation(model, (*IN_FRONT.tensors["ids"].tolist(), *ids[text])) for text in contexts]
    model.attach(IN_FRONT)
    assert front
    found = lm(model)._loglikelihood_tokens([(("", ""), ids[text], [50, 51]) for text in contexts])
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], rel=1e-5)
    written = lm(model).generate_until(requests("generate_until", *((text, dict(options)) for text in contexts)))
    for text, ids_after in zip(written, told, strict=True):
        assert model.tokenizer.decode(ids_after).startswith(text)


def continuation(model: EditableModel, ids: tuple[int, ...]) -> list[int]:
    row = list(ids)
    for _ in range(3):
        with torch.no_grad():
            row.append(int(model.network(input_ids=torch.tensor([row])).logits[0, -1].argmax()))
    return row[-3:]


def test_a_row_of_whole_texts_says_that_nothing_was_routed(model: EditableModel, tmp_path: Path) -> None:
    folder = know_folder(tmp_path)
    (folder / "reading.yaml").write_text(READING)
    model.attach(BY_END)
    rows = named(evaluator(folder).score(Subject(model, golden_requests(), 24)).rows)
    assert rows["word_perplexity", "know_reading"].protocol.endswith("/unrouted")
    assert not rows["acc", "know_choice"].protocol.endswith("/unrouted")


def test_a_hook_that_nobody_declared_gets_no_result_of_the_unedited_model(model: EditableModel, tmp_path: Path) -> None:
    class Kept(dict[str, bytes]):
        def read(self, key: str) -> bytes | None:
            return self.get(key)

        def write(self, key: str, data: bytes) -> None:
            self[key] = data

    folder, kept = know_folder(tmp_path), Kept()
    subject = Subject(model, golden_requests(), 24, kept=kept)
    before = evaluator(folder).score(subject)
    handle = model.layers[0].register_forward_hook(lambda _, __, out: out * 1.5)
    with pytest.raises(InputError, match="carries something that its digest does not name"):
        evaluator(folder).score(subject)
    handle.remove()
    model.attach(BY_END)
    count = len(kept)
    after = evaluator(folder).score(subject)
    assert len(kept) == 2 * count
    assert [row.value for row in after.rows] != [row.value for row in before.rows]
