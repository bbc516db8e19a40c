"""Edit quality against the official implementation's figures, and against scoring one pair at a time."""

import shutil
from dataclasses import replace

import pytest
import torch
from eval_parts import (
    BREAKERS,
    TINY_LLAMA,
    by_name,
    golden,
    golden_requests,
    subject_of,
    tiny_gpt2,
    tiny_llama,
)
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from evaluators.base import Score, Subject
from evaluators.edit_quality.encoding import EncodedPair, Pair, PairEncoder
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.edit_quality.metrics import probe_rows
from evaluators.edit_quality.pair_scores import length_batches, score_pairs
from evaluators.edit_quality.probes import NO_CONTRAST
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import canonical_json
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, Probe

ROLES = ("rewrite", "paraphrase", "neighborhood")


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    """Shared by tests that leave its weights alone."""
    return tiny_llama()


def evaluator(**settings: int) -> EditQuality:
    return EditQuality(EditQualitySettings(**settings))


def distinct_pairs() -> list[Pair]:
    probes = [probe for request in golden_requests() for probe in request.probes]
    pairs = [pair for p in probes for pair in (Pair(p.prompt, p.target), Pair(p.prompt, str(p.contrast)))]
    return list(dict.fromkeys(pairs))


def one_by_one(model: EditableModel, pairs: list[EncodedPair]) -> list[tuple[float, list[bool]]]:
    """The plain definition: one unpadded row a pair, whole logits, log-softmax in float64."""
    found = []
    for pair in pairs:
        with torch.no_grad():
            logits = model.network(torch.tensor([pair.ids])).logits[0].double()
        steps = logits[pair.boundary - 1 : -1]
        target = torch.tensor(pair.targets)
        chosen = steps.log_softmax(dim=1)[torch.arange(len(target)), target]
        found.append((float(-chosen.mean()), (steps.argmax(dim=1) == target).tolist()))
    return found


def assert_same_scores(rows: list[Score], others: list[Score]) -> None:
    assert [replace(row, value=None, stderr=None, status="collapsed") for row in rows] == [
        replace(row, value=None, stderr=None, status="collapsed") for row in others
    ]
    for row, other in zip(rows, others, strict=True):
        assert row.status == other.status
        assert row.value == pytest.approx(other.value, abs=1e-6)


def test_golden_likelihoods_and_argmax(llama: EditableModel) -> None:
    """Figures of the official CounterFact evaluation on the unedited model, to 1e-4."""
    table = probe_rows(evaluator().probe_table(subject_of(llama)), "correct").to_pylist()
    seen = 0
    for place, record in enumerate(golden()["records"], start=1):
        for role in ROLES:
            rows = [row for row in table if row["edit"] == place and row["role"] == role]
            wanted = zip(rows, record["nll"][role], record["correct"][role], strict=True)
            for row, (new, true), correct in wanted:
                ours = (row["nll_mean"], row["contrast_nll_mean"])
                new_first = ours[::-1] if role == "neighborhood" else ours
                assert new_first == pytest.approx((new, true), abs=1e-4)
                assert (row["correct"] == row["tokens"]) is correct
                assert row["finite"]
                assert not row["tied"]
                seen += 1
    assert seen == 24 * 6


def test_golden_rates(llama: EditableModel) -> None:
    rows = by_name(evaluator().score(subject_of(llama)).rows)
    summary = golden()["summary"]
    assert rows["efficacy", "probability", None].value == summary["eff"]
    assert rows["generalization", "probability", None].value == summary["gen"]
    assert rows["specificity", "probability", None].value == summary["spec"]
    assert rows["efficacy", "argmax", None].value == summary["eff_acc"]
    assert rows["specificity", "argmax", None].value == summary["spec_acc"]
    assert rows["score", "probability", None].value == 0.0
    assert rows["efficacy", "probability", None].n == 24
    assert all(row.status == "ok" and row.nonfinite == row.tied == 0 for row in rows.values())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("token_budget", [1, 40, 300, 32768])
def test_batches_equal_one_pair_at_a_time(llama: EditableModel, family: str, token_budget: int) -> None:
    model = llama if family == "llama" else tiny_gpt2(llama.tokenizer)
    pairs = PairEncoder(model.tokenizer).encode(distinct_pairs())
    scores = score_pairs(model, pairs, token_budget=token_budget)
    for place, (nll, hits) in enumerate(one_by_one(model, pairs)):
        assert scores.nll_mean[place] == pytest.approx(nll, abs=1e-5)
        assert scores.nll_sum[place] == pytest.approx(nll * len(hits), abs=1e-5 * len(hits))
        assert scores.tokens[place] == len(hits)
        assert scores.exact[place] == all(hits)
        assert scores.token_accuracy[place] == sum(hits) / len(hits)


def test_batches_keep_the_budget_and_every_row() -> None:
    rows = [tuple(range(length)) for length in (5, 9, 1, 7, 7, 3, 20)]
    batches = list(length_batches(rows, 18))
    assert sorted(row for batch in batches for row in batch) == sorted(rows)
    assert all(len(batch) * len(batch[0]) <= 18 or len(batch) == 1 for batch in batches)
    assert [len(batch) for batch in batches] == [1, 2, 2, 2]


def test_equal_pairs_are_scored_once(llama: EditableModel) -> None:
    requests = golden_requests()
    table = evaluator().probe_table(Subject(llama, requests + requests, edits=48))
    assert len(table.pairs) == len(distinct_pairs())
    assert len(table.edit) == 2 * 24 * 6


def test_padding_side_changes_nothing(llama: EditableModel) -> None:
    expected = evaluator().score(subject_of(llama)).rows
    left = tiny_llama()
    left.tokenizer.padding_side = "left"
    assert_same_scores(evaluator(token_budget=256).score(subject_of(left)).rows, expected)
    assert left.tokenizer.padding_side == "left"


def test_renaming_the_folder_changes_nothing(llama: EditableModel, tmp_path) -> None:
    shutil.copytree(TINY_LLAMA, tmp_path / "my-model")
    renamed = tiny_llama(tmp_path / "my-model")
    assert renamed.base_digest == llama.base_digest
    assert evaluator().score(subject_of(renamed)).rows == evaluator().score(subject_of(llama)).rows


def test_a_plain_tokenizer_gives_the_same_targets(llama: EditableModel) -> None:
    plain = tiny_llama().tokenizer
    plain.backend_tokenizer.post_processor = processors.Sequence([])
    pairs = distinct_pairs()
    opened = PairEncoder(llama.tokenizer).encode(pairs)
    bare = PairEncoder(plain).encode(pairs)
    assert opened[0].ids[0] == llama.tokenizer.bos_token_id
    assert bare[0].ids[0] != llama.tokenizer.bos_token_id
    assert [pair.targets for pair in bare] == [pair.targets for pair in opened]
    assert all(llama.tokenizer.bos_token_id not in pair.targets for pair in opened)


def test_a_closing_token_is_no_target(llama: EditableModel) -> None:
    closing = tiny_llama().tokenizer
    closing.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|end_of_text|>", special_tokens=[("<|end_of_text|>", closing.eos_token_id)]
    )
    assert closing("a")["input_ids"][-1] == closing.eos_token_id
    pairs = distinct_pairs()
    assert [pair.targets for pair in PairEncoder(closing).encode(pairs)] == [
        pair.targets for pair in PairEncoder(llama.tokenizer).encode(pairs)
    ]


def test_a_merge_across_the_joint_moves_the_boundary() -> None:
    vocabulary = {token: place for place, token in enumerate(["a", "b", "c", " ", "a "])}
    merging = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", " ")])))
    encoder = PairEncoder(merging)
    assert encoder.encode([Pair("cb", "b")])[0] == EncodedPair((2, 1, 3, 1), boundary=2)
    assert encoder.encode([Pair("ca", "b")])[0] == EncodedPair((2, 4, 1), boundary=1)
    with pytest.raises(InputError, match="no token to predict"):
        encoder.encode([Pair("a", "b")])


def test_a_probe_that_cannot_be_scored_is_refused(llama: EditableModel) -> None:
    def subject(probe: Probe) -> Subject:
        return Subject(llama, (EditRequest("7", "{} is", "He", "here", None, (probe,)),), edits=1)

    with pytest.raises(InputError, match="no token of its own"):
        evaluator().score(subject(Probe("rewrite", "He is", " ")))
    with pytest.raises(InputError, match="64 positions"):
        evaluator().score(subject(Probe("rewrite", "He is " * 60, "here")))


@pytest.mark.parametrize("break_model", BREAKERS, ids=lambda breaker: breaker.__name__)
def test_a_broken_model_is_collapsed(break_model) -> None:
    model = tiny_llama()
    break_model(model)
    rows = evaluator().score(subject_of(model)).rows
    assert len(rows) == 17
    assert {row.status for row in rows} == {"collapsed"}
    assert all(row.value is None and row.stderr is None for row in rows)
    assert all(row.nonfinite > 0 or row.tied > 0 for row in rows)


def test_no_hit_through_the_argmax_of_nan(llama: EditableModel) -> None:
    """The argmax of a row of NaN is token 0, and 0 is a token that can be asked for."""
    model = tiny_llama()
    BREAKERS[0](model)
    scores = score_pairs(model, [EncodedPair((5, 9, 0), boundary=2)], token_budget=64)
    assert not scores.finite[0]
    assert not scores.exact[0]
    assert scores.token_accuracy[0] == 0


def test_requests_without_a_contrast_have_no_probability_row(llama: EditableModel) -> None:
    bare = tuple(
        replace(request, probes=tuple(replace(probe, contrast=None) for probe in request.probes))
        for request in golden_requests()
    )
    rows = evaluator().score(Subject(llama, bare, edits=24)).rows
    assert {row.protocol for row in rows} == {"argmax", "token"}
    named = by_name(rows)
    expected = by_name(evaluator().score(subject_of(llama)).rows)
    assert named["specificity", "token", None] == expected["specificity", "token", None]
    table = evaluator().probe_table(Subject(llama, bare, edits=24))
    assert (table.contrast == NO_CONTRAST).all()
    assert probe_rows(table, "correct")["contrast_nll_mean"].null_count == len(table.edit)


def test_warm_caches_never_keep_a_score() -> None:
    """Two weights, one evaluator: each gets what a fresh evaluator gives it, and the first comes back."""
    model, warm = tiny_llama(), evaluator()
    base = warm.score(subject_of(model)).rows
    site = model.open_sites([1])[0]
    generator = torch.Generator().manual_seed(0)
    model.set_weight(site, model.weight(site) + 0.5 * torch.randn(site.d_out, site.d_in, generator=generator))
    changed = warm.score(subject_of(model)).rows
    assert changed == evaluator().score(subject_of(model)).rows
    assert [row.value for row in changed] != [row.value for row in base]
    model.restore_base()
    assert warm.score(subject_of(model)).rows == base


def test_another_tokenizer_is_encoded_anew(llama: EditableModel) -> None:
    warm = evaluator()
    warm.score(subject_of(llama))
    plain = tiny_llama()
    plain.tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    assert warm.score(subject_of(plain)).rows == evaluator().score(subject_of(plain)).rows


def test_identity_names_the_settings() -> None:
    assert canonical_json(evaluator().identity()) == canonical_json(evaluator().identity())
    assert evaluator().identity() != evaluator(token_budget=64).identity()
