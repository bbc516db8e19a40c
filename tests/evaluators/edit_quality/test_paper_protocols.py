"""The released evaluations' conventions: recorded figures, a plain restatement of them, and what they do to BOS."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from eval_parts import BREAKERS, by_name, golden, golden_requests, subject_of, tiny_llama
from tiny_models import tiny_model, tokenizer

from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.edit_quality.metrics import probe_rows
from evaluators.edit_quality.paper_encoding import PaperEncoder, PaperProtocol
from sphere_core.foundation.errors import InputError
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, Probe

PAPERS: tuple[PaperProtocol, ...] = ("paper-memit", "paper-alphaedit", "paper-sphere")


def evaluator(*protocols: str) -> EditQuality:
    return EditQuality(EditQualitySettings(protocols=protocols))


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    return tiny_llama()


def zsre(case: str, question: str, subject: str, answer: str, loc: str, loc_answer: str) -> EditRequest:
    probes = (
        Probe("rewrite", question, answer),
        Probe("paraphrase", f"Tell me: {question}", answer),
        Probe("neighborhood", f"{loc}?", loc_answer),
    )
    return EditRequest(case, question.replace(subject, "{}"), subject, answer, None, probes)


ZSRE = (
    zsre("0", "What is the town of Mira Solen?", "Mira Solen", "the old town", "nq question: who plays", "Ilka Torm"),
    zsre("1", "Where does Dario Venn live?", "Dario Venn", "Ostrava", "nq question: what is far", "Harbel and Quint"),
)


def logits_of(model: EditableModel, texts: list[str]) -> tuple[torch.Tensor, list[int]]:
    """Whole logits of texts padded on the right with the ending token, and their lengths."""
    rows = [model.tokenizer(text)["input_ids"] for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [model.tokenizer.eos_token_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        return model.network(input_ids=ids, attention_mask=mask).logits, [len(row) for row in rows]


def plain_counterfact(model: EditableModel, request: EditRequest, *, llama: bool) -> list[tuple[float, float, bool]]:
    """One record at a time: (nll of the target, nll of the contrast, target exact), in fp32, all logits kept."""
    found = []
    for probe in request.probes:
        answers = (probe.target, str(probe.contrast))
        logits, _ = logits_of(model, [f"{probe.prompt} {answer}" for answer in answers])
        length = len(model.tokenizer(probe.prompt)["input_ids"])
        values, exact = [], False
        for row, answer in enumerate(answers):
            wanted = model.tokenizer(" " + answer)["input_ids"]
            steps, offset = logits[row], length
            if llama:
                wanted, steps, offset = wanted[1:], logits[row, 1:], length - 1
            losses = [-steps[offset + j - 1].log_softmax(0)[token].item() for j, token in enumerate(wanted)]
            values.append(float(np.float32(sum(losses) / len(losses))))
            if row == 0:
                exact = all(int(steps[offset + j - 1].argmax()) == token for j, token in enumerate(wanted))
        found.append((values[0], values[1], exact))
    return found


def plain_zsre(model: EditableModel, probe: Probe, protocol: PaperProtocol) -> list[bool]:
    """One prompt a token, each in its own text, compared with one id of the token's own text."""
    words, branch = model.tokenizer, protocol != "paper-memit" and probe.role != "neighborhood"
    ids = words(" " + probe.target)["input_ids"]
    if branch and (protocol == "paper-alphaedit" or (len(ids) > 1 and words.decode([ids[0]]) == " ")):
        ids = ids[1:]
    prompts = [
        probe.prompt + (" " if branch and number else "") + (words.decode(ids[:number]) if number else "")
        for number in range(len(ids))
    ]
    answers = [words(words.decode([token]))["input_ids"] for token in ids]
    place = {"paper-memit": 0, "paper-alphaedit": 1}.get(protocol, 0)
    if protocol == "paper-sphere" and max(map(len, answers)) > 1 and words.decode([answers[0][0]]) == " ":
        place = 1
    logits, lengths = logits_of(model, prompts)
    return [
        int(logits[row, lengths[row] - 1].argmax()) == (answer + [words.eos_token_id] * 2)[place]
        for row, answer in enumerate(answers)
    ]


@pytest.mark.parametrize("protocol", PAPERS[1:])
def test_recorded_figures_of_the_llama_branch(llama: EditableModel, protocol: PaperProtocol) -> None:
    """The official CounterFact scores were recorded in a folder named tiny-llama."""
    table = probe_rows(evaluator(protocol).probe_table(subject_of(llama), protocol), protocol).to_pylist()
    assert {row["protocol"] for row in table} == {protocol}
    for place, record in enumerate(golden()["records"], start=1):
        for role, pairs in record["nll"].items():
            rows = [row for row in table if (row["edit"], row["role"]) == (place, role)]
            for row, (new, true), correct in zip(rows, pairs, record["correct"][role], strict=True):
                ours = (row["nll_mean"], row["contrast_nll_mean"])
                assert (ours[::-1] if role == "neighborhood" else ours) == pytest.approx((new, true), abs=2e-5)
                assert (row["correct"] == row["tokens"]) is correct
    rows = by_name(evaluator(protocol).score(subject_of(llama)).rows)
    assert rows["efficacy", f"{protocol}/probability", None].value == golden()["summary"]["eff"]
    assert rows["specificity", f"{protocol}/argmax", None].value == golden()["summary"]["spec_acc"]


@pytest.mark.parametrize("protocol", PAPERS)
@pytest.mark.parametrize("opens_texts", [True, False])
def test_counterfact_equals_the_plain_restatement(opens_texts: bool, protocol: PaperProtocol) -> None:
    model = tiny_model("llama" if opens_texts else "gpt2")
    requests = [
        EditRequest("0", "{} lives in", "Mira Solen", "the old town", "Quint", (
            Probe("rewrite", "Mira Solen lives in", "the old town", "Harbel and Quint"),
            Probe("neighborhood", "Dario Venn lives in", "Harbel and Quint", "the old town"),
        )),
    ]  # fmt: skip
    table = evaluator(protocol).probe_table(Subject(model, tuple(requests), edits=1), protocol)
    plain = plain_counterfact(model, requests[0], llama=protocol != "paper-memit")
    for row, (nll, rival, exact) in zip(probe_rows(table, protocol).to_pylist(), plain, strict=True):
        assert (row["nll_mean"], row["contrast_nll_mean"]) == pytest.approx((nll, rival), abs=1e-5)
        assert (row["correct"] == row["tokens"]) is exact


@pytest.mark.parametrize("protocol", PAPERS)
@pytest.mark.parametrize("opens_texts", [True, False])
def test_zsre_equals_the_plain_restatement(opens_texts: bool, protocol: PaperProtocol) -> None:
    model = tiny_model("llama" if opens_texts else "gpt2")
    if protocol == "paper-alphaedit" and not opens_texts:
        with pytest.raises(InputError, match="no number for this pair"):
            evaluator(protocol).score(Subject(model, ZSRE, edits=2))
        return
    scored = evaluator(protocol).score(Subject(model, ZSRE, edits=2))
    rows = scored.tables["probes"].to_pylist()
    for row, probe in zip(rows, (probe for request in ZSRE for probe in request.probes), strict=True):
        plain = plain_zsre(model, probe, protocol)
        assert (row["correct"], row["tokens"]) == (sum(plain), len(plain))
    assert {row.protocol for row in scored.rows} == {f"{protocol}/token"}


def test_the_llama_branch_has_no_number_for_one_token_without_bos() -> None:
    encoder = PaperEncoder(tokenizer(adds_bos=False), "paper-sphere")
    probe = Probe("rewrite", "Mira Solen lives in", ".", "Quint")
    model = tiny_model("gpt2")
    assert encoder.form(probe) == "whole"
    with pytest.raises(InputError, match="leaves none to score"):
        evaluator("paper-sphere").score(
            Subject(model, (EditRequest("0", "{} lives in", "Mira Solen", "a", "b", (probe,)),), 1)
        )


def test_the_combined_score_goes_by_what_it_is(llama: EditableModel) -> None:
    rows = evaluator("correct", *PAPERS).score(subject_of(llama)).rows
    named = by_name(rows)
    rates = [named[m, "paper-sphere/probability", None].value for m in ("efficacy", "generalization", "specificity")]
    assert named["score_arithmetic", "paper-sphere/probability", None].value == pytest.approx(np.mean(rates))
    assert ("score", "paper-sphere/probability", None) not in named
    assert ("score", "paper-alphaedit/probability", None) in named
    # BOS is a target token to MEMIT's code, and nothing predicts it.
    assert named["specificity", "paper-memit/argmax", None].value == 0.0
    assert named["specificity", "argmax", None].value == 1.0
    assert len({row.protocol for row in rows}) == 3 + 3 * 2


def fitted(opens_texts: bool) -> EditableModel:
    """A model that has learnt every answer of the requests by heart."""
    model = tiny_model("llama" if opens_texts else "gpt2", layers=2)
    texts = [f"{probe.prompt} {probe.target}" for request in ZSRE for probe in request.probes]
    rows = [torch.tensor([model.tokenizer(text)["input_ids"]]) for text in texts]
    model.network.requires_grad_(True)
    optimiser = torch.optim.AdamW(model.network.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        loss = sum(model.network(ids, labels=ids).loss for ids in rows)
        loss.backward()
        optimiser.step()
    model.network.requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def with_bos() -> EditableModel:
    return fitted(True)


@pytest.mark.parametrize("opens_texts", [True, False])
def test_a_fitted_model_is_perfect_where_the_protocol_is_correct(with_bos: EditableModel, opens_texts: bool) -> None:
    model = with_bos if opens_texts else fitted(False)
    rows = by_name(evaluator("correct", "paper-memit", "paper-sphere").score(Subject(model, ZSRE, edits=2)).rows)
    for measure in ("argmax", "token"):
        for metric in ("efficacy", "generalization", "specificity", "score"):
            assert rows[metric, measure, None].value == 1.0
    # The released scripts are right without BOS; with it, gold ids are BOS and a perfect model scores nothing.
    protocols = ("paper-memit/token", "paper-sphere/token") if opens_texts else ("paper-memit/token",)
    for protocol in protocols:
        assert rows["efficacy", protocol, None].value == (0.0 if opens_texts else 1.0)
        assert rows["specificity", protocol, None].value == (0.0 if opens_texts else 1.0)


def test_alphaedits_branch_asks_a_fitted_model_for_bos(with_bos: EditableModel) -> None:
    rows = by_name(evaluator("paper-alphaedit").score(Subject(with_bos, ZSRE, edits=2)).rows)
    locality = rows["specificity", "paper-alphaedit/token", None]
    # One impossible BOS an answer: at most (n - 1) / n of n ids.
    assert locality.value is not None
    assert locality.value < 0.95


@pytest.mark.parametrize("break_model", BREAKERS, ids=lambda breaker: breaker.__name__)
def test_a_broken_model_is_collapsed_under_every_paper(break_model) -> None:
    model = tiny_llama()
    break_model(model)
    bare = tuple(replace(p, contrast=None) for request in golden_requests() for p in request.probes)
    requests = (*golden_requests(), replace(golden_requests()[0], case_id="zsre", probes=bare))
    rows = evaluator(*PAPERS).score(Subject(model, requests, edits=25)).rows
    assert {row.status for row in rows} == {"collapsed"}
    assert {row.protocol for row in rows} == {f"{p}/{m}" for p in PAPERS for m in ("probability", "argmax", "token")}
