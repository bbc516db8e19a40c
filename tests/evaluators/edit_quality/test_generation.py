"""Free generation: the same for every batch, and what is measured on its texts."""

import itertools
import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from eval_parts import BREAKERS, TINY_LLAMA, by_name, golden_requests, tiny_gpt2, tiny_llama
from pydantic import ValidationError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.edit_quality.free_running import FluencySettings, GenerationSettings
from evaluators.edit_quality.free_texts import contains, exact, likeness, ngram_entropy
from evaluators.edit_quality.generation import Continuation, Decoding, continue_texts
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import text_ids
from sphere_core.models import EditableModel

PLAIN = Decoding(8, frozenset())
NATURAL = Decoding(8, frozenset({"eos", "newline", "sentence"}))
SAMPLED = Decoding(20, frozenset(), total=True, top_k=5, seed=7)
TEXTS = list(dict.fromkeys(probe.prompt for request in golden_requests()[:3] for probe in request.probes))


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    return tiny_llama()


def spoken(model: EditableModel, decoding: Decoding, *, token_budget: int = 4096) -> list[Continuation]:
    return continue_texts(model, TEXTS, decoding, token_budget=token_budget)


def without_cache(model: EditableModel, text: str, steps: int) -> tuple[int, ...]:
    """The plain definition: the whole text read anew for every token, unpadded."""
    ids = list(text_ids(model.tokenizer, text))
    start = len(ids)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(model.network(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return tuple(ids[start:])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_batches_equal_greedy_without_a_cache(llama: EditableModel, family: str) -> None:
    model = llama if family == "llama" else tiny_gpt2(llama.tokenizer)
    expected = [without_cache(model, text, 8) for text in TEXTS]
    assert len({len(text_ids(model.tokenizer, text)) for text in TEXTS}) > 3
    for budget in (40, 4096):
        said = spoken(model, PLAIN, token_budget=budget)
        assert [one.ids for one in said] == expected
        assert {one.stopped for one in said} == {"length"}


def test_neither_padding_side_nor_folder_matters(llama: EditableModel, tmp_path) -> None:
    left = tiny_llama()
    left.tokenizer.padding_side = "left"
    shutil.copytree(TINY_LLAMA, tmp_path / "my-model")
    for decoding in (NATURAL, SAMPLED):
        expected = spoken(llama, decoding)
        assert spoken(left, decoding) == expected
        assert spoken(tiny_llama(tmp_path / "my-model"), decoding) == expected
    assert left.tokenizer.padding_side == "left"


def test_a_natural_stop_cuts_what_was_said(llama: EditableModel) -> None:
    plain, natural = spoken(llama, PLAIN), spoken(llama, NATURAL)
    assert {"sentence"} <= {one.stopped for one in natural}
    for free, stopped in zip(plain, natural, strict=True):
        assert free.ids[: len(stopped.ids)] == stopped.ids
        assert not set(stopped.text) & set("\n.!?")
        whole = llama.tokenizer.decode(free.ids, skip_special_tokens=True)
        assert whole.startswith(stopped.text)


def test_what_has_stopped_is_read_no_more_and_the_head_reads_the_last_position_alone() -> None:
    model = tiny_llama()
    plain = spoken(model, PLAIN)
    # Two of the three tokens that prompts are continued by end a text here.
    ending = list(dict.fromkeys(one.ids[0] for one in plain))[:2]
    rows: list[int] = []
    heads: list[int] = []
    model.network.register_forward_pre_hook(lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True)
    model.network.get_output_embeddings().register_forward_pre_hook(lambda _, given: heads.append(given[0].shape[1]))
    model.network.generation_config.eos_token_id = ending
    said = spoken(model, Decoding(8, frozenset({"eos"})))
    for free, stopped in zip(plain, said, strict=True):
        end = next((place for place, token in enumerate(free.ids) if token in ending), len(free.ids))
        assert stopped.ids == free.ids[:end]
    assert rows == sorted(rows, reverse=True)
    still = [sum(len(one.ids) > step for one in said) for step in range(len(rows))]
    assert all(2 * left > read or read == len(TEXTS) for left, read in zip(still, rows, strict=True)), (still, rows)
    assert rows[-1] < rows[0]
    assert set(heads) == {1}


def test_the_token_that_ends_a_text_stops_it(llama: EditableModel) -> None:
    model = tiny_llama()
    token = spoken(model, PLAIN)[0].ids[2]
    model.tokenizer.eos_token = model.tokenizer.convert_ids_to_tokens(token)
    stopped = continue_texts(model, TEXTS[:1], Decoding(8, frozenset({"eos"})), token_budget=64)[0]
    assert (stopped.stopped, stopped.ids) == ("eos", spoken(llama, PLAIN)[0].ids[:2])
    assert len(continue_texts(model, TEXTS[:1], PLAIN, token_budget=64)[0].ids) == 8


def test_samples_are_seeded_by_text_and_drawn_from_the_most_likely(llama: EditableModel) -> None:
    state = torch.random.get_rng_state()
    said = spoken(llama, SAMPLED)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert spoken(llama, SAMPLED, token_budget=60) == said
    assert spoken(llama, replace(SAMPLED, seed=8)) != said
    assert spoken(llama, replace(SAMPLED, top_k=1)) == spoken(llama, replace(SAMPLED, top_k=None))
    for text, one in zip(TEXTS[:5], said, strict=False):
        ids = [*text_ids(llama.tokenizer, text), *one.ids]
        assert len(ids) == 20
        with torch.no_grad():
            logits = llama.network(torch.tensor([ids])).logits[0]
        for place in range(20 - len(one.ids), 20):
            assert ids[place] in logits[place - 1].topk(5).indices.tolist()


def test_draws_follow_the_probabilities(llama: EditableModel) -> None:
    text, count = TEXTS[0], 200
    with torch.no_grad():
        top = llama.network(torch.tensor([text_ids(llama.tokenizer, text)])).logits[0, -1].double().div(3).topk(5)
    length = len(text_ids(llama.tokenizer, text)) + 1
    head = llama.network.get_submodule(llama.family.head).weight
    with torch.no_grad():
        head.div_(3)
    try:
        draws = [
            continue_texts(llama, [text], Decoding(length, frozenset(), True, 5, seed), token_budget=64)[0].ids[0]
            for seed in range(count)
        ]
    finally:
        with torch.no_grad():
            head.mul_(3)
    shares = top.values.softmax(dim=0).tolist()
    for token, share in zip(top.indices.tolist(), shares, strict=True):
        assert abs(draws.count(token) / count - share) < 4 * math.sqrt(share * (1 - share) / count) + 1e-9


def test_a_prompt_without_room_is_refused(llama: EditableModel) -> None:
    with pytest.raises(InputError, match="64 positions"):
        continue_texts(llama, TEXTS[:1], Decoding(100, frozenset()), token_budget=64)
    with pytest.raises(InputError, match="the prompt alone has"):
        continue_texts(llama, ["He is " * 10], Decoding(5, frozenset(), total=True), token_budget=64)


def test_normalised_matches() -> None:
    assert exact(" The Lisbon.", "lisbon")
    assert not exact("Lisbon is", "Lisbon")
    assert contains("it is in old Lisbon, they say", "the Lisbon")
    assert not contains("Lisbonian things", "Lisbon")
    assert not exact("...", "the")
    assert not contains("anything", "!")


def test_entropy_by_hand() -> None:
    text = "a b a b c"
    h2 = -(0.5 * math.log2(0.5) + 2 * 0.25 * math.log2(0.25))
    assert ngram_entropy(text, "whitespace") == pytest.approx((2 / 3 * h2 + 4 / 3 * math.log2(3)) / 2)
    assert ngram_entropy("", "whitespace") == ngram_entropy("so so so so so", "whitespace") == 0
    assert ngram_entropy("a, b", "regex-words") > ngram_entropy("a, b", "whitespace") == 0


def test_likeness_is_the_cosine_of_tfidf() -> None:
    references = ["the old town of Harbel", "a violin made of wood", "the old town of Harbel"]
    said = ["the town of wood", "nothing known", "violin, violin!"]
    vectoriser = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]").fit(set(references))
    expected = np.diag(cosine_similarity(vectoriser.transform(said), vectoriser.transform(references)))
    found = likeness(said, references, "regex-words")
    assert found == pytest.approx(expected)
    assert found[1] == 0


def evaluator(**generation: object) -> EditQuality:
    return EditQuality(EditQualitySettings(generation=GenerationSettings(**generation)))


def with_prompts() -> tuple:
    return tuple(
        replace(request, generation_prompts=(request.question,), reference_texts=(f"{request.target_new} is a city",))
        for request in golden_requests()
    )


def test_rows_of_what_the_model_says(llama: EditableModel) -> None:
    """The unedited model knows the true answers, so neighborhood prompts are answered and rewrites are not."""
    scored = evaluator().score(Subject(llama, golden_requests(), edits=24))
    rows, said = by_name(scored.rows), scored.tables["generations"].to_pylist()
    assert len(said) == 24 * 6
    for role, metric in (("rewrite", "efficacy"), ("neighborhood", "specificity")):
        hits: dict[int, list[bool]] = {}
        for one in said:
            if one["role"] == role:
                target = golden_requests()[one["edit"] - 1].probes[one["probe"]].target
                hits.setdefault(one["edit"], []).append(target.lower() in one["text"].lower())
        expected = np.mean([np.mean(values) for values in hits.values()])
        assert rows[metric, "greedy/contains", None].value == pytest.approx(expected)
    assert rows["efficacy", "greedy/contains", None].value == 0.0
    assert rows["specificity", "greedy/exact", None].value > 0.9
    assert ("fluency", "top-5-100/regex-words", None) not in rows


def test_fluency_and_consistency_rows(llama: EditableModel) -> None:
    fluency = {"length": 30, "words": "whitespace"}
    scored = evaluator(fluency=fluency, every=4).score(Subject(llama, with_prompts(), edits=24))
    rows = by_name(scored.rows)
    free = [one for one in scored.tables["generations"].to_pylist() if one["role"] == "generation"]
    assert [one["edit"] for one in free] == [1, 5, 9, 13, 17, 21]
    row = rows["fluency", "top-5-30/whitespace", None]
    entropies = [ngram_entropy(one["prompt"] + one["text"], "whitespace") for one in free]
    assert (row.value, row.n, row.higher_is_better) == (pytest.approx(np.mean(entropies)), 6, None)
    assert 0 < rows["consistency", "top-5-30/whitespace", None].value < 1
    assert rows["efficacy", "greedy/exact", None].n == 6
    with pytest.raises(InputError, match="without generation prompts"):
        evaluator(fluency=fluency).score(Subject(llama, golden_requests(), edits=24))


def test_settings_say_what_enters_the_identity() -> None:
    assert evaluator(fluency={}).reads_generation
    assert not evaluator().reads_generation
    assert not EditQuality(EditQualitySettings()).reads_generation
    with pytest.raises(ValidationError, match="not both"):
        GenerationSettings(every=2, sample=3)
    assert FluencySettings().protocol == "top-5-100/regex-words"


def test_entropy_counts_what_counter_counts() -> None:
    words = ["x", "y", "x", "y", "x", "y", "z"]
    pairs = Counter(itertools.pairwise(words))
    total = sum(pairs.values())
    h2 = -sum(n / total * math.log2(n / total) for n in pairs.values())
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    h3 = -sum(n / 5 * math.log2(n / 5) for n in triples.values())
    assert ngram_entropy(" ".join(words), "whitespace") == pytest.approx((2 * h2 + 4 * h3) / 6)


@pytest.mark.parametrize("break_model", BREAKERS, ids=lambda breaker: breaker.__name__)
def test_a_broken_model_is_collapsed_and_ends_at_once(break_model) -> None:
    model = tiny_llama()
    break_model(model)
    scored = evaluator(fluency={"length": 30}).score(Subject(model, with_prompts()[:4], edits=4))
    free = [row for row in scored.rows if row.protocol.startswith(("greedy", "top-5"))]
    assert len(free) == 10
    assert {row.status for row in free} == {"collapsed"}
    said = scored.tables["generations"].to_pylist()
    assert all(one["stopped"] == "nonfinite" or one["tied"] for one in said)
    assert all(one["tokens"] == 0 for one in said if one["stopped"] == "nonfinite")


def test_warm_caches_never_keep_what_was_said() -> None:
    model, warm = tiny_llama(), evaluator()
    subject = Subject(model, golden_requests()[:4], edits=4)
    base = warm.score(subject).tables["generations"]
    site = model.open_sites([1])[0]
    noise = torch.randn(model.weight(site).shape, generator=torch.Generator().manual_seed(0))
    model.set_weight(site, model.weight(site) + 0.3 * noise)
    changed = warm.score(subject).tables["generations"]
    assert changed != base
    assert changed == evaluator().score(subject).tables["generations"]
    model.restore_base()
    assert warm.score(subject).tables["generations"] == base
