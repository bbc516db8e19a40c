"""The shapes that files of records come in: wrapped, keyed, one after another, packed, with an index column."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from repository import DATASETS

from sphere_core.datasets.files import read_records
from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError

FACTS = [
    {"prompt": "{} was born in", "subject": "Mira Solen", "target_new": "Quint"},
    {"prompt": "{} was born in", "subject": "Odo Falk", "target_new": "Harbel"},
]


def subjects(path: Path, dataset: str = "facts") -> list[tuple[str, str]]:
    records = read_dataset(DatasetSpec(dataset=dataset, path=str(path))).records  # type: ignore[arg-type]
    return [(record.case_id, record.requests[0].subject) for record in records]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (json.dumps({"version": 2, "data": FACTS}), ["0", "1"]),
        (json.dumps({"records": FACTS, "licence": {"name": "CC0"}}), ["0", "1"]),
        (json.dumps({"train": FACTS}), ["0", "1"]),
        (json.dumps({"17": FACTS[0], "4": FACTS[1]}), ["17", "4"]),
        (json.dumps({"a": {**FACTS[0], "case_id": 9}, "b": FACTS[1]}, indent=1), ["9", "b"]),
        ("\n".join(json.dumps(fact, indent=2) for fact in FACTS), ["0", "1"]),
        ("".join(json.dumps(fact) for fact in FACTS), ["0", "1"]),
        (json.dumps(FACTS), ["0", "1"]),
        (json.dumps({"version": 2, "data": {"17": FACTS[0], "4": FACTS[1]}}), ["17", "4"]),
        (json.dumps(FACTS[:1]) + "\n" + json.dumps(FACTS[1:]), ["0", "1"]),
        (json.dumps([]) + json.dumps(FACTS), ["0", "1"]),
    ],
)
def test_shapes_whose_meaning_is_plain_are_read(tmp_path: Path, text: str, ids: list[str]) -> None:
    path = tmp_path / "facts.json"
    path.write_text(text)
    assert subjects(path) == list(zip(ids, ["Mira Solen", "Odo Falk"], strict=True))


def test_a_packed_file_is_read_by_the_suffix_before(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv.gz"
    path.write_bytes(gzip.compress((DATASETS / "facts.csv").read_bytes()))
    assert subjects(path) == subjects(DATASETS / "facts.csv")


@pytest.mark.parametrize("record", [0, 1])
def test_one_record_alone_is_a_record(tmp_path: Path, record: int) -> None:
    source, dataset = [("counterfact.json", "counterfact"), ("mquake_cf.json", "mquake")][record]
    path = tmp_path / "one.json"
    path.write_text(json.dumps(json.loads((DATASETS / source).read_text())[0], indent=1))
    assert len(subjects(path, dataset)) == 1


def by_column(facts: list[dict[str, str]]) -> dict[str, list[str]]:
    return {name: [fact[name] for fact in facts] for name in facts[0]}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"train": FACTS, "test": FACTS}, "several lists of records: train, test"),
        (
            {"data": [["{} was"]], "columns": ["prompt"]},
            "the key 'data', and that is not a list of objects",
        ),
        (by_column(FACTS), "a table by columns (prompt, subject, target_new"),
        ({name: {"0": "a", "1": "b"} for name in FACTS[0]}, "a table by columns"),
        ({}, "holds no record"),
        ([FACTS], "record 0 is a list"),
        ([1], "record 0 is a number"),
    ],
)
def test_shapes_that_are_no_records_are_named(tmp_path: Path, value: object, what: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError) as raised:
        read_records(path)
    assert what in raised.value.what
    assert raised.value.remedy


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (",prompt,subject,target_new\n0,{} is,Mira,Quint\n", "column 1 has no name: it looks like the index"),
        ("Unnamed: 0,prompt,subject,target_new\n0,{} is,Mira,Quint\n", "called 'Unnamed: 0': it looks like the index"),
        ("prompt,subject,target_new,index\n{} is,Mira,Quint,0\n", "column 4 is called 'index'"),
        ("prompt\tsubject\n{} is\tMira\n", "separated by tabs"),
    ],
)
def test_columns_that_are_no_fields(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        read_records(path)
    assert what in raised.value.what


def test_the_index_of_pandas_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    pq.write_table(pa.table({"prompt": ["{} is"], "__index_level_0__": [3]}), path)
    with pytest.raises(InputError, match="index that pandas writes"):
        read_records(path)


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_first_line_may_name_the_separator(tmp_path: Path, first: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(f"{first}\nprompt;subject;target_new\n{{}} is;Mira, of Quint;Harbel\n")
    assert subjects(path) == [("0", "Mira, of Quint")]
    path.write_text(f"{first}\nprompt;subject;target_new\n{{}} is;Mira\n")
    with pytest.raises(InputError, match=r"facts\.csv, line 3"):
        read_records(path)


def test_a_parquet_file_that_is_an_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match="git lfs pull"):
        read_records(path)


@pytest.mark.parametrize(("given", "case_id"), [(3, "3"), ("c7", "c7"), (3.0, "3"), (None, "0"), (" 4 ", "4")])
def test_case_ids_that_are_read(tmp_path: Path, given: object, case_id: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps([{**FACTS[0], "case_id": given}]))
    assert subjects(path)[0][0] == case_id


@pytest.mark.parametrize("given", ["NaN", "true", "[1]", '{"a": 1}', "Infinity", "1.5", '"\\ud800"', '" "'])
def test_case_ids_that_are_none(tmp_path: Path, given: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps([FACTS[0]])[:-2] + f', "case_id": {given}}}]')
    with pytest.raises(InputError, match="'case_id' must be a text or a whole number"):
        subjects(path)


@pytest.mark.parametrize("field", ["prompt", "subject", "target_new", "paraphrase_prompts"])
@pytest.mark.parametrize("text", ["Mira \ud83d", "\u200b", "\u2800"])
def test_texts_that_no_tokenizer_takes(tmp_path: Path, field: str, text: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps([{**FACTS[0], field: text}]))
    with pytest.raises(InputError) as raised:
        subjects(path)
    assert f"field {field}" in str(raised.value.where)


def changed(source: str, change: Mapping[str, Any]) -> list[dict[str, Any]]:
    records = json.loads((DATASETS / source).read_text())
    return [{**records[0], **change}, *records[1:]]


@pytest.mark.parametrize(
    ("dataset", "source", "name", "near"),
    [
        ("counterfact", "counterfact.json", "paraphrases", "paraphrase_prompts"),
        ("counterfact", "counterfact.json", "paraphrase_prompt", "paraphrase_prompts"),
        ("multi_counterfact", "counterfact.json", "neighbourhood_prompts", "neighborhood_prompts"),
        ("multi_counterfact", "counterfact.json", "generation_prompt", "generation_prompts"),
        ("zsre", "zsre_mend_eval.json", "rephrase_prompt", "rephrase"),
        ("zsre", "zsre_mend_eval.json", "loc_answer", "loc_ans"),
        ("mquake", "mquake_cf.json", "new_answer_aliases", "new_answer_alias"),
        ("knowedit", "knowedit.json", "rephrase_prompts", "rephrase_prompt"),
        ("wikibigedit", "wikibigedit.json", "rephrased", "rephrase"),
        ("ripple_edits", "ripple_edits.json", "Compositionality_III", "Compositionality_II"),
        ("unke", "unke.json", "sub_questions", "sub_question"),
        ("akew", "akew.json", "paraphrase_prompt", "paraphrase_prompts"),
        ("easyedit", "easyedit.json", "locality_prompts", "locality_prompt"),
        ("counterfact_plus", "counterfact_plus.json", "neighbor_prompts", "neighborhood_prompts"),
    ],
)
def test_a_misspelt_field_is_refused_by_every_reader(
    tmp_path: Path, dataset: str, source: str, name: str, near: str
) -> None:
    path = tmp_path / source
    path.write_text(json.dumps(changed(source, {name: ["Mira Solen comes from"]})))
    with pytest.raises(InputError) as raised:
        subjects(path, dataset)
    assert raised.value.what == f"unknown field '{name}'"
    assert f"did you mean '{near}'" in str(raised.value.remedy)
    path.write_text(json.dumps(changed(source, {f"_{name}": 1})))
    assert subjects(path, dataset)


@pytest.mark.parametrize(
    ("dataset", "inside", "name", "near"),
    [
        ("counterfact", "requested_rewrite", "target_ture", "target_true"),
        ("counterfact", "requested_rewrite", "relation", "relation_id"),
        ("akew", "requested_rewrite", "fact_new_unstructured", "fact_new_uns"),
        ("knowedit", "locality", "Relation_Specifity", "Relation_Specificity"),
        ("ripple_edits", "edit", "previous_facts", "previous_fact"),
    ],
)
def test_a_misspelt_field_inside_an_object_is_refused(
    tmp_path: Path, dataset: str, inside: str, name: str, near: str
) -> None:
    source = f"{dataset}.json"
    records = json.loads((DATASETS / source).read_text())
    records[0][inside][name] = "x"
    path = tmp_path / source
    path.write_text(json.dumps(records))
    with pytest.raises(InputError) as raised:
        subjects(path, dataset)
    assert f"'{name}'" in raised.value.what
    assert f"did you mean '{near}'" in str(raised.value.remedy)
