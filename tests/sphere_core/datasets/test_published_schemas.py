"""Readers of KnowEdit, WikiBigEdit, RippleEdits, UnKE, AKEW, EasyEdit and CounterFact+: what is asked in which role."""

import json
from pathlib import Path
from typing import Any

import pytest
from repository import DATASETS

from sphere_core.datasets.records import IncompleteRecord, Record
from sphere_core.datasets.schemas import SCHEMAS
from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, KnownFact, encode_request


def read(dataset: str, path: Path | None = None, **more: Any) -> tuple[Record, ...]:
    found = DatasetSpec(dataset=dataset, path=str(path or DATASETS / f"{dataset}.json"), **more)  # type: ignore[arg-type]
    return read_dataset(found).records


def requests(dataset: str) -> list[EditRequest]:
    return [request for record in read(dataset) for request in record.requests]


def asked(request: EditRequest) -> list[tuple[str, str, str]]:
    return [(probe.role, probe.prompt, probe.target) for probe in request.probes]


def test_knowedit() -> None:
    recent, counterfact, biography, zsre = requests("knowedit")
    assert (recent.prompt, recent.target_new, recent.target_true) == ("The place of birth of {} is", "Quint", None)
    roles = [probe.role for probe in recent.probes]
    assert roles == ["rewrite", *["portability"] * 5, "neighborhood"]
    # Two aliases of one answer are one question.
    assert [probe.group for probe in recent.probes if "head of" in probe.prompt] == ["Reasoning[0]"] * 2
    assert (counterfact.target_true, counterfact.probes[0].contrast) == ("mayor of Harbel", "mayor of Harbel")
    assert [probe.role for probe in counterfact.probes] == ["rewrite", "portability", "neighborhood", "neighborhood"]
    assert biography.prompt.startswith("This is a Wikipedia passage about {}. Teo Lind (born")
    assert biography.target_new.startswith("He wrote three books")
    assert asked(zsre)[1] == ("paraphrase", "Which metal is the Harbel lamp made of?", "copper")
    assert zsre.target_true == "tin"


def test_wikibigedit() -> None:
    first, bare = requests("wikibigedit")
    assert [probe.role for probe in first.probes] == [
        "rewrite",
        "paraphrase",
        "paraphrase",
        "multi_hop",
        "neighborhood",
    ]
    assert (first.prompt, first.target_new) == ("Who is the head of {}?", "Runa Meck")
    assert [probe.role for probe in bare.probes] == ["rewrite"]


def test_ripple_edits_finds_subject_and_target_in_the_sentence() -> None:
    first, recent = requests("ripple_edits")
    assert (first.prompt, first.subject) == ("The name of the country of citizenship of {} is", "Mira Solen")
    assert (first.target_new, first.target_true, first.relation) == ("Quint", "Harbel", "COUNTRY_OF_CITIZENSHIP")
    assert (recent.prompt, recent.subject, recent.target_new) == (
        "The names of the siblings of {} are",
        "Odo Falk",
        "Runa Falk",
    )


def test_ripple_edits_brings_its_conditions_along() -> None:
    first, recent = requests("ripple_edits")
    mother = KnownFact("The name of the mother of Mira Solen is", ("Ada Solen", "A. Solen"))
    capital = KnownFact("The name of the capital city of Quint is", ("Port Quint",))
    assert [(probe.role, probe.target, probe.known_before) for probe in first.probes] == [
        ("rewrite", "Quint", ()),
        ("multi_hop", "Port Quint", (capital,)),
        ("portability", "Quint", ()),
        ("neighborhood", "Ada Solen", (mother,)),
        ("neighborhood", "A. Solen", (mother,)),
    ]
    # The questions of an AND test each count by themselves.
    assert [probe.group for probe in recent.probes if probe.role == "portability"] == [None, None]


def test_a_condition_is_part_of_the_identity_and_leaves_others_as_they_were() -> None:
    first, recent = requests("ripple_edits")
    assert "The name of the capital city of Quint is" in encode_request(first).identity
    assert recent.probes[0].identity() == ["rewrite", recent.question, "Runa Falk", None]


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        ({"prompt": "Who is who is Mira."}, "where the target begins"),
        ({"prompt": "Mira Solen likes Quint."}, "where the target begins"),
        ({"prompt": "The town of Arl Solen is Quint.", "relation": "HOME"}, "which part"),
    ],
)
def test_a_sentence_that_cannot_be_taken_apart(tmp_path: Path, edit: dict[str, Any], what: str) -> None:
    records = json.loads((DATASETS / "ripple_edits.json").read_text())
    records[0]["edit"] = {**records[0]["edit"], **edit}
    path = tmp_path / "ripple.json"
    path.write_text(json.dumps(records))
    with pytest.raises(IncompleteRecord, match=what):
        read("ripple_edits", path)
    assert [len(record.requests) for record in read("ripple_edits", path, incomplete="skip")] == [0, 1]
    words = edit["prompt"].removesuffix(".").split()
    records[0]["edit"] |= {"subject": words[-3], "target": words[-1]}
    path.write_text(json.dumps(records))
    assert read("ripple_edits", path)[0].requests[0].target_new == words[-1]


def test_unke_edits_at_the_end_of_the_question() -> None:
    (request,) = requests("unke")
    assert (request.prompt, request.subject) == ("{}", "What is Mira Solen known for?")
    assert [probe.role for probe in request.probes] == ["rewrite", "paraphrase", "portability", "portability"]
    assert request.probes[-1].target == "In the town hall of Harbel."


def test_akew_edits_to_the_paragraph() -> None:
    first, second = requests("akew")
    assert first.target_new.startswith("Mira Solen came to the world")
    assert [probe.role for probe in first.probes] == ["rewrite", "paraphrase", "neighborhood", "portability"]
    assert (second.case_id, second.probes[1].prompt) == ("4.1", "What is the country of citizenship of Odo Falk?")
    # The same records hold the short target for the other readers.
    records = json.loads((DATASETS / "akew.json").read_text())
    for place, dataset in enumerate(["counterfact", "mquake"]):
        (request,) = SCHEMAS[dataset].read(records[place], place, "akew.json").requests
        assert request.target_new == "Quint"


def test_easyedit() -> None:
    first, second = requests("easyedit")
    assert asked(first) == [
        ("rewrite", "Where was Mira Solen born?", "Quint"),
        ("paraphrase", "Which is the town where Mira Solen was born?", "Quint"),
        ("neighborhood", "Where was Odo Falk born?", "Harbel"),
        ("portability", "Who leads the town where Mira Solen was born?", "Runa Meck"),
    ]
    assert (first.target_true, second.target_true) == ("Harbel", None)
    assert [probe.target for probe in second.probes] == ["green", "stone", "tin", "green"]


def test_counterfact_plus_asks_behind_the_edited_fact() -> None:
    (request,) = requests("counterfact_plus")
    neighborhood = [probe for probe in request.probes if probe.role == "neighborhood"]
    assert [probe.prompt.startswith("Mira Solen was born in Quint. ") for probe in neighborhood] == [True, True]
    assert {probe.target for probe in neighborhood} == {"Harbel"}
    with pytest.raises(InputError, match="distracting_neighborhood_prompts' is missing"):
        read("counterfact_plus", DATASETS / "counterfact.json")


@pytest.mark.parametrize(
    ("dataset", "change", "what"),
    [
        ("knowedit", {"locality": ["x"]}, "must be an object"),
        ("knowedit", {"portability": {"Reasoning": [{"prompt": "x"}]}}, "'ground_truth' is missing"),
        ("knowedit", {"portability": {"Reasoning": {"prompt": "x"}}}, "must be a list of objects"),
        ("wikibigedit", {"mhop_ans": None}, "'mhop_ans' is missing"),
        ("wikibigedit", {"loc": None}, "'loc' is missing"),
        ("ripple_edits", {"edit": "Mira"}, "must be an object"),
        ("ripple_edits", {"Forgetfulness": {"a": 1}}, "must be a list of objects"),
        ("ripple_edits", {"Forgetfulness": [{"test_query": []}]}, "unknown field of a test 'test_query'"),
        ("unke", {"sub_answer": ["one"]}, "2 entries in 'sub_question' and 1"),
        ("unke", {"answer": ""}, "'answer' must be a non-empty text"),
        ("akew", {"requested_rewrite": {"prompt": "{} is", "subject": "x"}}, "'fact_new_uns' is missing"),
        ("easyedit", {"locality_ground_truth": None}, "'locality_ground_truth' is missing"),
        ("easyedit", {"locality": {"n": {"prompt": ["a", "b"], "ground_truth": ["c"]}}}, "as many answers"),
        ("easyedit", {"portability": "x"}, "must be an object of objects"),
    ],
)
def test_faults_name_record_and_field(tmp_path: Path, dataset: str, change: dict[str, Any], what: str) -> None:
    records = json.loads((DATASETS / f"{dataset}.json").read_text())
    path = tmp_path / "records.json"
    path.write_text(json.dumps([{**records[0], **change}]))
    with pytest.raises(InputError) as raised:
        read(dataset, path)
    assert what in raised.value.what
    assert f"{path}, record 0" in str(raised.value.where)
    assert raised.value.remedy


def test_a_file_of_another_schema_is_told_by_its_fields() -> None:
    with pytest.raises(InputError, match="look like those of 'wikibigedit'"):
        read("zsre", DATASETS / "wikibigedit.json")
    with pytest.raises(InputError, match="look like those of 'ripple_edits'"):
        read("counterfact", DATASETS / "ripple_edits.json")
