"""Readers of edit requests: what they take, and that every fault names file, record and field."""

import json
from pathlib import Path
from typing import Any

import golden
import pytest

from sphere_core.datasets.counterfact import counterfact_requests, load_counterfact
from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.datasets.zsre import load_zsre
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe, generation_digest, overwritten_cases, requests_digest

COUNTERFACT: dict[str, Any] = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "{} lives in",
        "subject": "Mira Solen",
        "target_new": {"str": "Quint"},
        "target_true": {"str": "Harbel"},
    },
    "paraphrase_prompts": ["The home of Mira Solen is"],
    "neighborhood_prompts": ["Dario Venn lives in"],
}
ZSRE: dict[str, Any] = {
    "subject": "Mira Solen",
    "src": "Where does Mira Solen live?",
    "rephrase": "In what place is Mira Solen at home?",
    "answers": ["Quint", "the town of Quint"],
    "loc": "nq question: who bakes in harbel",
    "loc_ans": "Dario Venn",
}


def write(folder: Path, records: object) -> Path:
    path = folder / "records.json"
    path.write_text(json.dumps(records))
    return path


def test_counterfact_probes(tmp_path: Path) -> None:
    (request,) = load_counterfact(write(tmp_path, [COUNTERFACT]))
    assert request.case_id == "7"
    assert request.question == "Mira Solen lives in"
    found = [(probe.role, probe.target, probe.contrast) for probe in request.probes]
    assert found == [
        ("rewrite", "Quint", "Harbel"),
        ("paraphrase", "Quint", "Harbel"),
        ("neighborhood", "Harbel", "Quint"),
    ]


def test_zsre_probes(tmp_path: Path) -> None:
    (request,) = load_zsre(write(tmp_path, [ZSRE]))
    assert request.prompt == "Where does {} live?"
    assert [(p.role, p.prompt, p.target, p.contrast) for p in request.probes] == [
        ("rewrite", "Where does Mira Solen live?", "Quint", None),
        ("paraphrase", "In what place is Mira Solen at home?", "Quint", None),
        ("neighborhood", "nq question: who bakes in harbel?", "Dario Venn", None),
    ]


def test_json_lines_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in [COUNTERFACT, COUNTERFACT]))
    assert len(load_counterfact(path)) == 2


@pytest.mark.parametrize(
    ("change", "message", "place"),
    [
        (("subject", None), "requested_rewrite.subject' is missing", "record 0"),
        (("prompt", "Mira Solen lives in"), "exactly once", "field prompt"),
        (("target_new", {"str": " "}), "target_new.str' must be a non-empty text", "record 0"),
        (("target_new", {}), "target_new.str' is missing", "record 0"),
    ],
)
def test_faults_in_counterfact_records(tmp_path: Path, change: tuple[str, Any], message: str, place: str) -> None:
    rewrite = dict(COUNTERFACT["requested_rewrite"])
    name, value = change
    if value is None:
        del rewrite[name]
    else:
        rewrite[name] = value
    path = write(tmp_path, [{**COUNTERFACT, "requested_rewrite": rewrite}])
    with pytest.raises(InputError) as raised:
        load_counterfact(path)
    assert message in raised.value.what
    assert place in str(raised.value.where)


def test_zsre_subject_must_occur_in_the_question(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not occur"):
        load_zsre(write(tmp_path, [{**ZSRE, "subject": "mira solen"}]))


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    for text, message in (("[1, 2", "not valid JSON"), ("[]", "no record"), ("[1]", "not an object")):
        path.write_text(text)
        with pytest.raises(InputError) as raised:
            load_counterfact(path)
        assert message in raised.value.what
        assert str(path) in str(raised.value.where)
    with pytest.raises(InputError, match="not found"):
        load_counterfact(tmp_path / "nothing.json")


def test_digest_depends_on_content_and_order() -> None:
    assert requests_digest(golden.REQUESTS) == requests_digest(list(golden.REQUESTS))
    assert requests_digest(golden.REQUESTS) != requests_digest(golden.REQUESTS[::-1])
    assert requests_digest(golden.REQUESTS) != requests_digest(golden.REQUESTS[:-1])


def test_identities_of_streams_that_have_been_edited_do_not_move() -> None:
    """Results on disk are found by these digests."""
    world = counterfact_requests(edit_records(shipped_world()), source="fact world")
    assert requests_digest(world) == "aa03ee4cf26d7927122f66a7611b78762658608f7012bb4667ce62f68bab4fcd"


def request(**changes: Any) -> EditRequest:
    """One request, with fields replaced."""
    fields = {"prompt": "{} lives in", "subject": "Mira Solen", "target_new": "Quint", "target_true": "Harbel"}
    return EditRequest(**{"case_id": "7", "probes": (), **fields, **changes})


def test_what_only_generation_is_scored_by_has_a_digest_of_its_own() -> None:
    plain, asked = request(), request(generation_prompts=("Mira Solen lives in",), relation="P1")
    assert requests_digest([plain]) == requests_digest([asked])
    assert generation_digest([plain]) is None
    assert generation_digest([plain, asked]) not in (None, generation_digest([asked]))
    assert generation_digest([asked]) != generation_digest([request(reference_texts=("Quint is a town.",))])


def test_groups_and_contradictions_are_part_of_the_identity() -> None:
    probe = Probe("multi_hop", "In which land does Mira Solen live?", "Ostria")
    grouped = Probe(probe.role, probe.prompt, probe.target, group="7")
    digests = {requests_digest([request(probes=(p,))]) for p in (probe, grouped)}
    assert len(digests | {requests_digest([request(probes=(probe,), supersedes="3")])}) == 3
    assert overwritten_cases([request(), request(case_id="8", supersedes="7")]) == {"7"}
