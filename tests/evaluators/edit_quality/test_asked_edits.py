"""Which edits and probes are asked at a checkpoint, what a group of probes counts as, and which texts are stored."""

from dataclasses import replace

import pytest
from eval_parts import (
    by_name,
    golden_requests,
    tiny_llama,
)

from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from sphere_core.models import EditableModel
from sphere_core.requests import Probe


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    """Shared by tests that leave its weights alone."""
    return tiny_llama()


def evaluator(**settings: int) -> EditQuality:
    return EditQuality(EditQualitySettings(**settings))


def test_cohorts_are_the_first_and_the_latest_edits(llama: EditableModel) -> None:
    requests = golden_requests()
    rows = by_name(evaluator(cohort=6).score(Subject(llama, requests, edits=24)).rows)
    latest = by_name(evaluator().score(Subject(llama, requests[-6:], edits=6)).rows)
    first = by_name(evaluator().score(Subject(llama, requests[:6], edits=6)).rows)
    for protocol in ("probability", "argmax", "token"):
        assert rows["efficacy_latest", protocol, None].n == 6
        assert rows["efficacy_latest", protocol, None].value == latest["efficacy", protocol, None].value
        assert rows["efficacy_first", protocol, None].value == first["efficacy", protocol, None].value


def test_an_edit_that_was_contradicted_is_no_longer_asked(llama: EditableModel) -> None:
    first, second, third = golden_requests()[:3]
    against = replace(first, case_id="again", target_new=second.target_new, supersedes=first.case_id)
    table = evaluator().probe_table(Subject(llama, (first, second, against, third), 4))
    # Places in the stream stay what they were: ages and cohorts count every edit.
    assert set(table.edit.tolist()) == {2, 3, 4}
    before = evaluator().probe_table(Subject(llama, (first, second), 2))
    assert set(before.edit.tolist()) == {1, 2}


def test_one_right_answer_of_a_group_is_enough(llama: EditableModel) -> None:
    """Aliases and wordings of a multi-hop question: the model says what it has learnt, so that is one alias."""
    request = golden_requests()[0]
    known = next(probe for probe in request.probes if probe.role == "neighborhood")
    hops = (
        Probe("multi_hop", known.prompt, str(known.contrast), group="first"),
        Probe("multi_hop", known.prompt, known.target, group="first"),
        Probe("multi_hop", known.prompt, str(known.contrast), group="second"),
    )
    rows = by_name(evaluator().score(Subject(llama, (replace(request, probes=hops),), edits=1)).rows)
    assert rows["multi_hop", "argmax", None].value == 0.5
    alone = tuple(replace(probe, group=None) for probe in hops)
    rows = by_name(evaluator().score(Subject(llama, (replace(request, probes=alone),), edits=1)).rows)
    assert rows["multi_hop", "argmax", None].value == pytest.approx(1 / 3)


def test_texts_are_stored_once_a_stream(llama: EditableModel) -> None:
    requests = [replace(request, relation=f"P{place % 2}") for place, request in enumerate(golden_requests())]
    tables = evaluator().score(Subject(llama, requests, edits=0)).tables
    assert set(evaluator().score(Subject(llama, requests, edits=24)).tables) == {"probes"}
    texts = {(row["edit"], row["probe"]): row for row in tables["probe_texts"].to_pylist()}
    scored = tables["probes"].to_pylist()
    assert len(scored) == len(texts) == 24 * 6
    for row in scored:
        probe = requests[row["edit"] - 1].probes[row["probe"]]
        said = texts[row["edit"], row["probe"]]
        assert (said["role"], said["prompt"], said["target"]) == (row["role"], probe.prompt, probe.target)
        assert said["relation"] == requests[row["edit"] - 1].relation
