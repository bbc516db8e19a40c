"""Which answer is edited in, in which shapes it comes, and where the subject stands in the prompt."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from repository import DATASETS

from sphere_core.datasets.records import IncompleteRecord
from sphere_core.datasets.sources import Dataset, DatasetSpec, read_dataset
from sphere_core.datasets.subjects import template_of
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest


def read(tmp_path: Path, dataset: str, *records: dict[str, Any], **more: Any) -> Dataset:
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    return read_dataset(DatasetSpec(dataset=dataset, path=str(path), **more))  # type: ignore[arg-type]


def first(found: Dataset) -> EditRequest:
    return found.records[0].requests[0]


def counterfact(**rewrite: object) -> dict[str, Any]:
    (record, *_) = json.loads((DATASETS / "counterfact.json").read_text())
    return {**record, "requested_rewrite": {**record["requested_rewrite"], **rewrite}}


def zsre(**change: object) -> dict[str, Any]:
    (record, *_) = json.loads((DATASETS / "zsre_mend_eval.json").read_text())
    return {**record, **change}


@pytest.mark.parametrize(
    "shape", [{"str": "Quint"}, {"str": "Quint", "id": "Q"}, "Quint", ["Quint"], {"str": ["Quint"]}]
)
@pytest.mark.parametrize("name", ["target_new", "target_true"])
def test_a_target_in_all_its_shapes(tmp_path: Path, name: str, shape: object) -> None:
    request = first(read(tmp_path, "counterfact", counterfact(**{name: shape})))
    assert getattr(request, name) == "Quint"
    assert any(probe.role == "neighborhood" for probe in request.probes)


@pytest.mark.parametrize(
    "shape", [["Quint", "Harbel"], {"text": "Quint"}, {"Str": "Quint"}, 7, True, {"str": 7}, [[]], {"str": ""}, "  "]
)
@pytest.mark.parametrize("name", ["target_new", "target_true"])
def test_another_shape_of_a_target_is_refused(tmp_path: Path, name: str, shape: object) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, "counterfact", counterfact(**{name: shape}))
    assert name in str(raised.value)
    assert raised.value.remedy


def test_neighborhood_prompts_without_a_true_target_are_refused(tmp_path: Path) -> None:
    record = counterfact()
    del record["requested_rewrite"]["target_true"]
    with pytest.raises(InputError, match="neighborhood prompts require a true target"):
        read(tmp_path, "counterfact", record)


def test_the_target_of_zsre_can_be_chosen(tmp_path: Path) -> None:
    record = zsre(answers=["Harbel"], alt="Quint", portability={"New Question": "Who?", "New Answer": "Runa"})
    assert first(read(tmp_path, "zsre", record)).target_new == "Harbel"
    assert first(read(tmp_path, "zsre", record, target="answers")).target_new == "Harbel"
    other = first(read(tmp_path, "zsre", record, target="alt"))
    assert {probe.target for probe in other.probes if probe.role in ("rewrite", "paraphrase")} == {"Quint"}
    assert [probe.target for probe in other.probes if probe.role == "portability"] == ["Runa"]
    with pytest.raises(ValueError, match="zsRE"):
        DatasetSpec(dataset="counterfact", path="x.json", target="alt")


def test_an_empty_alternative_is_refused_or_left_out(tmp_path: Path) -> None:
    records = [zsre(alt="Quint"), zsre(alt=""), zsre(alt="Harbel")]
    with pytest.raises(IncompleteRecord, match="'alt' is empty"):
        read(tmp_path, "zsre", *records, target="alt")
    found = read(tmp_path, "zsre", *records, target="alt", incomplete="skip")
    assert [len(record.requests) for record in found.records] == [1, 0, 1]
    assert dict(found.left_out) == {1: "field 'alt' is empty"}


def test_a_data_set_that_is_left_out_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every record is left out"):
        read(tmp_path, "zsre", zsre(alt=""), target="alt", incomplete="skip")


@pytest.mark.parametrize(
    ("loc", "asked"),
    [
        ("nq question: who wrote the green book", "nq question: who wrote the green book?"),
        ("Who wrote the green book?", "Who wrote the green book?"),
        ("Who wrote the green book? ", "Who wrote the green book?"),
        ("\u8ab0\u304c\u66f8\u3044\u305f\uff1f", "\u8ab0\u304c\u66f8\u3044\u305f\uff1f"),
        ("Name the writer.", "Name the writer."),
    ],
)
def test_a_question_mark_is_not_doubled(tmp_path: Path, loc: str, asked: str) -> None:
    request = first(read(tmp_path, "zsre", zsre(loc=loc)))
    assert [probe.prompt for probe in request.probes if probe.role == "neighborhood"] == [asked]


def test_several_rephrasings_are_several_probes(tmp_path: Path) -> None:
    request = first(read(tmp_path, "zsre", zsre(rephrase=["One?", "Two?"])))
    assert [probe.prompt for probe in request.probes if probe.role == "paraphrase"] == ["One?", "Two?"]


@pytest.mark.parametrize("dataset", ["counterfact", "zsre", "mquake", "facts", "easyedit"])
def test_blanks_around_texts_are_stripped_and_counted(tmp_path: Path, dataset: str) -> None:
    source = {"zsre": "zsre_mend_eval", "mquake": "mquake_cf"}.get(dataset, dataset)
    suffix = ".jsonl" if dataset == "facts" else ".json"
    spec = DatasetSpec(dataset=dataset, path=str(DATASETS / f"{source}{suffix}"))  # type: ignore[arg-type]
    plain = read_dataset(spec)

    def padded(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: padded(item) for name, item in value.items()}
        if isinstance(value, list):
            return [padded(item) for item in value]
        return f" {value}\n" if isinstance(value, str) and not value.startswith("<") else value

    text = (DATASETS / f"{source}{suffix}").read_text()
    raw = [json.loads(line) for line in text.splitlines()] if dataset == "facts" else json.loads(text)
    wide = read(tmp_path, dataset, *padded(raw))
    assert wide.records == plain.records
    assert (plain.stripped, wide.stripped > 5) == (0, True)


@pytest.mark.parametrize(
    ("prompt", "subject", "template"),
    [
        ("Where was Mira Solen born?", "Mira Solen", "Where was {} born?"),
        ("What is Quint's colour?", "Quint", "What is {}'s colour?"),
        ("{} is in Quint, says Quint", "Mira", "{} is in Quint, says Quint"),
        ("Is C++ a language?", "C++", "Is {} a language?"),
        ("\u4e2d\u56fd\u7684\u9996\u90fd\u662f", "\u4e2d\u56fd", "{}\u7684\u9996\u90fd\u662f"),
        ("Mira-Solen-Weg is in", "Solen", "Mira-{}-Weg is in"),
    ],
)
def test_one_place_of_the_subject(prompt: str, subject: str, template: str) -> None:
    assert template_of(prompt, subject, where="facts.json, record 0") == template


@pytest.mark.parametrize(
    ("prompt", "subject", "what", "remedy"),
    [
        ("Is Harbel FC from Harbel?", "Harbel", "occurs 2 times", "write '{}' in place of the one"),
        ("Is Romeo from Rome?", "Rome", "occurs 2 times", "write '{}'"),
        ("Is Romeo from Quint?", "Rome", "only a part of a longer word", "whole word"),
        ("Who won in 19812?", "1981", "only a part of a longer word", "whole word"),
        ("Who is Mira?", "Odo", "does not occur", "exactly as it is in"),
        ("Who is mira solen?", "Mira Solen", "does not occur", "upper and lower case"),
        (unicodedata.normalize("NFD", "Who is H\u00e4rbel?"), "H\u00e4rbel", "does not occur", "Unicode forms"),
        ("Who is H\u00e4rbel?", unicodedata.normalize("NFD", "H\u00e4rbel"), "does not occur", "Unicode forms"),
        ("Who is Mira\u00a0Solen?", "Mira Solen", "does not occur", "U+00A0"),
        ("Who is Mira\u200bSolen?", "MiraSolen", "does not occur", "U+200B"),
    ],
)
def test_no_place_or_several(prompt: str, subject: str, what: str, remedy: str) -> None:
    with pytest.raises(IncompleteRecord) as raised:
        template_of(prompt, subject, where="facts.json, record 0")
    assert what in raised.value.what
    assert raised.value.where == "facts.json, record 0, field prompt"
    assert remedy in str(raised.value.remedy)


@pytest.mark.parametrize(
    ("dataset", "record"),
    [
        ("zsre", zsre(src="Is Harbel FC from Harbel?", subject="Harbel")),
        ("facts", {"prompt": "Harbel or Harbel", "subject": "Harbel", "target_new": "Quint"}),
        ("easyedit", {"prompt": "Harbel or Harbel", "subject": "Harbel", "target_new": "Quint"}),
        ("knowedit", {"prompt": "Harbel or Harbel", "subject": "Harbel", "target_new": "Quint"}),
        ("wikibigedit", {"update": "Harbel or Harbel?", "subject": "Harbel", "ans": "Quint"}),
    ],
)
def test_every_reader_asks_which_place_is_meant_or_leaves_the_record_out(
    tmp_path: Path, dataset: str, record: dict[str, Any]
) -> None:
    with pytest.raises(IncompleteRecord, match="which one is meant"):
        read(tmp_path, dataset, record)
    field = {"zsre": "src", "wikibigedit": "update"}.get(dataset, "prompt")
    found = read(tmp_path, dataset, record, {**record, field: "{} is"}, incomplete="skip")
    assert [len(entry.requests) for entry in found.records] == [0, 1]
