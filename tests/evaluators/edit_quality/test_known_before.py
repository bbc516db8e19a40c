"""Probes that are asked only where the unedited model knows something: the condition of RippleEdits."""

from dataclasses import replace

import torch
from eval_parts import golden_requests, tiny_llama

from evaluators.base import Subject
from evaluators.edit_quality.encoding import Pair, PairEncoder
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, KnownFact, Probe


def said(model: EditableModel, prompt: str) -> str:
    """The one token that a model says next, as a word."""
    with torch.no_grad():
        logits = model.network(torch.tensor([model.tokenizer(prompt)["input_ids"]])).logits[0, -1]
    return str(model.tokenizer.decode([int(logits.argmax())])).strip()


def knows(model: EditableModel, prompt: str, answer: str) -> bool:
    (pair,) = PairEncoder(model.tokenizer).encode([Pair(prompt, answer)])
    with torch.no_grad():
        logits = model.network(torch.tensor([pair.ids])).logits[0]
    return logits[pair.boundary - 1 : -1].argmax(dim=1).tolist() == list(pair.ids[pair.boundary :])


def conditioned(requests: tuple[EditRequest, ...], *facts: KnownFact) -> tuple[EditRequest, ...]:
    """The requests, the first with a portability probe under each condition."""
    probes = tuple(Probe("portability", "The river is", "old", known_before=(fact,)) for fact in facts)
    return (replace(requests[0], probes=(*requests[0].probes, *probes)), *requests[1:])


def asked(quality: EditQuality, subject: Subject) -> int:
    return int((quality.probe_table(subject).role == "portability").sum())


def test_a_probe_is_asked_where_the_unedited_model_knows_one_of_the_answers() -> None:
    model, quality = tiny_llama(), EditQuality(EditQualitySettings())
    prompts = [request.question for request in golden_requests()]
    known = next((prompt, word) for prompt in prompts if knows(model, prompt, word := said(model, prompt)))
    yes = KnownFact(known[0], ("no such answer", known[1]))
    no = KnownFact(known[0], ("no such answer",))
    requests = conditioned(golden_requests(), yes, no)
    assert asked(quality, Subject(model, requests, edits=24)) == 1
    assert asked(quality, Subject(model, requests, edits=0)) == 1
    both = conditioned(golden_requests(), yes)
    two = replace(both[0].probes[-1], known_before=(yes, no))
    both = (replace(both[0], probes=(*both[0].probes, two)), *both[1:])
    assert asked(quality, Subject(model, both, edits=24)) == 1


def test_the_condition_is_of_the_unedited_model_whatever_has_been_edited() -> None:
    model, quality = tiny_llama(), EditQuality(EditQualitySettings())
    prompts = [request.question for request in golden_requests()]
    known = next((prompt, word) for prompt in prompts if knows(model, prompt, word := said(model, prompt)))
    requests = conditioned(golden_requests(), KnownFact(known[0], (known[1],)))
    for site in model.open_sites([0, 1]):
        model.set_weight(site, torch.zeros_like(model.weight(site)))
    digest = model.weights_digest()
    assert not knows(model, *known)
    assert asked(quality, Subject(model, requests, edits=24)) == 1
    assert model.weights_digest() == digest


def test_requests_without_conditions_are_scored_as_before() -> None:
    model = tiny_llama()
    plain = EditQuality(EditQualitySettings()).score(Subject(model, golden_requests(), edits=24))
    requests = conditioned(golden_requests(), KnownFact("The river is", ("no such answer",)))
    unmet = EditQuality(EditQualitySettings()).score(Subject(model, requests, edits=24))
    assert unmet.rows == plain.rows
