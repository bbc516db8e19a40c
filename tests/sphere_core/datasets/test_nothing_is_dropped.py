"""What a record gives is read or refused by record and field: no probe, condition or target is dropped or guessed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from repository import DATASETS

from sphere_core.datasets.files import read_records
from sphere_core.datasets.records import Record
from sphere_core.datasets.schemas import SCHEMAS, read_all
from sphere_core.datasets.wrapped import unwrapped
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest

FILES = {"zsre": "zsre_mend_eval", "mquake": "mquake_cf"}
RECORDS = {
    name: json.loads((DATASETS / f"{FILES.get(name, name)}.json").read_text())[0]
    for name in SCHEMAS
    if name not in ("facts", "multi_counterfact")
}
Change = Callable[[dict[str, Any]], object]


def changed(dataset: str, change: Change) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(json.dumps(RECORDS[dataset]))
    change(record)
    return record


def first(dataset: str, change: Change) -> EditRequest:
    return read_all(SCHEMAS[dataset].read, [changed(dataset, change)], "d", skip_incomplete=False)[0][0].requests[0]


def put(*path: str | int, to: object) -> Change:
    """Return a change of a record: what is at a path of keys and places becomes `to`."""

    def change(record: dict[str, Any]) -> None:
        held: Any = record
        for step in path[:-1]:
            held = held[step]
        held[path[-1]] = to

    return change


def without(*path: str | int) -> Change:
    def change(record: dict[str, Any]) -> None:
        held: Any = record
        for step in path[:-1]:
            held = held[step]
        del held[path[-1]]

    return change


def called(old: str, new: str) -> Change:
    def change(record: dict[str, Any]) -> None:
        record[new] = record.pop(old)

    return change


def no_hop(given: object) -> Change:
    return lambda record: record.update(mhop=given, mhop_ans=given)


PLUS, BRITISH = "distracting_neighborhood_prompts", "distracting_neighbourhood_prompts"
NEW = {"New Question": "q?", "New Answer": "a"}
TEST = ("Relation_Specificity", 0)
QUERY = (*TEST, "test_queries", 0)
ANSWER = (*QUERY, "answers", 0)


@pytest.mark.parametrize(
    ("dataset", "change", "field"),
    [
        *(("ripple_edits", put(*TEST, "test_condition", to=odd), "test_condition") for odd in ("XOR", "any", 5, [])),
        ("ripple_edits", without(*TEST, "test_queries"), "test_queries"),
        ("ripple_edits", put(*TEST, "test_queries", to=None), "test_queries"),
        ("ripple_edits", without(*QUERY, "answers"), "answers"),
        ("ripple_edits", put(*TEST, "condition_queries", to=[{"prompt": "x"}]), "answers"),
        *(("ripple_edits", put(*ANSWER, "aliases", to=given), "aliases") for given in (5, {"a": 1}, [["x"]], [None])),
        *(("ripple_edits", put("edit", "original_fact", to=given), "original_fact") for given in ("x", 4, ["x"])),
        ("ripple_edits", put("edit", "previous_fact", to={"prompt": "It is other."}), "previous_fact"),
        ("ripple_edits", put("edit", "target", to="Nowhere"), "target"),
        ("ripple_edits", put("edit", "subject", to="Nobody"), "subject"),
        ("akew", put("requested_rewrite", to=[]), "requested_rewrite"),
        ("akew", put("requested_rewrite", to=None), "requested_rewrite"),
        ("knowedit", put("locality", "Relation_Specificity", to=[{"ground_truth": "x"}]), "prompt"),
        ("knowedit", put("locality", "Relation_Specificity", to=[{"prompt": [], "ground_truth": "x"}]), "prompt"),
        ("knowedit", put("text", to="Mira Solen is"), "text"),
        ("knowedit", put("labels", to="another"), "labels"),
        ("knowedit", put("concept", to="another"), "concept"),
        *(("knowedit", put("target_new", to=two), "target_new") for two in (["a", "b"], [["a"], ["b"]], [["a", "b"]])),
        *(("easyedit", put("target_new", to=given), "target_new") for given in (["a", "b"], ["a", "a"])),
        ("wikibigedit", put("ans", to=["a", "b"]), "ans"),
        ("mquake", put("requested_rewrite", 0, "target_new_str", to="another"), "target_new_str"),
        ("mquake", put("requested_rewrite", 0, "target_true_str", to="another"), "target_true_str"),
        ("zsre", put("loc", to=None), "loc"),
        ("counterfact", put("requested_rewrite", "subject", to="A{}B"), "subject"),
        ("counterfact", put("portability", to={"New Question": "x?"}), "New Answer"),
        ("counterfact_plus", called(PLUS, BRITISH), BRITISH),
    ],
)
def test_what_cannot_be_read_is_refused_by_record_and_field(dataset: str, change: Change, field: str) -> None:
    with pytest.raises(InputError) as raised:
        first(dataset, change)
    assert f"'{field}'" in raised.value.what or str(raised.value.where).endswith(f"field {field}")
    assert str(raised.value.where).startswith("d, record 0")
    assert raised.value.remedy


def test_a_misspelt_field_gets_the_near_name() -> None:
    with pytest.raises(InputError) as raised:
        first("counterfact_plus", called(PLUS, BRITISH))
    assert f"did you mean '{PLUS}'" in str(raised.value.remedy)


@pytest.mark.parametrize(
    ("dataset", "change", "role", "targets"),
    [
        ("ripple_edits", put(*ANSWER, "aliases", to="Bea"), "neighborhood", ["Ada Solen", "Bea"]),
        ("ripple_edits", put(*ANSWER, to={"value": 3}), "neighborhood", ["3"]),
        ("ripple_edits", put("edit", "target", to="Quint"), "rewrite", ["Quint"]),
        ("knowedit", put("target_new", to=["Quint"]), "rewrite", ["Quint"]),
        ("knowedit", lambda r: r.update(text=r["prompt"]), "rewrite", ["Quint"]),
        ("easyedit", put("target_new", to=["Quint"]), "rewrite", ["Quint"]),
        ("easyedit", put("portability", to=NEW), "portability", ["Runa Meck", "a"]),
        ("easyedit", called("rephrase_prompt", "ood_rephrase"), "paraphrase", ["Quint"]),
        ("counterfact", put("portability", to=NEW), "portability", ["a"]),
        ("counterfact", put("unrelated_relation", to={"question": "q?", "object": "o"}), "portability", []),
        ("wikibigedit", put("ans", to=1961), "rewrite", ["1961"]),
        *(("wikibigedit", no_hop(given), "multi_hop", []) for given in (None, "", float("nan"))),
        ("mquake", put("requested_rewrite", 0, "target_new_str", to="Quint"), "rewrite", ["Quint"]),
    ],
)
def test_what_has_a_plain_meaning_is_read(dataset: str, change: Change, role: str, targets: list[str]) -> None:
    assert [probe.target for probe in first(dataset, change).probes if probe.role == role] == targets


def test_a_record_of_no_edit_is_refused_whichever_reader_gives_it() -> None:
    with pytest.raises(InputError, match="holds no edit") as raised:
        read_all(lambda record, index, source: Record("c7", ()), [{}], "d", skip_incomplete=True)
    assert raised.value.where == "d, record 0 (case c7)"


@pytest.mark.parametrize("mark", ["\u00a0", "\u3000", "\u200b", "\ufeff", "\u043e"])
def test_a_strange_character_in_a_name_is_named(mark: str) -> None:
    name = "pr\u043empt" if mark == "\u043e" else f"prompt{mark}"
    with pytest.raises(InputError) as raised:
        SCHEMAS["facts"].read({name: "{} is", "subject": "a", "target_new": "b"}, 0, "d")
    assert f"U+{ord(mark):04X}" in raised.value.what
    assert "did you mean 'prompt'" in str(raised.value.remedy)


@pytest.mark.parametrize("mark", ["\u00a0", "\u200b", "\u043e"])
def test_a_strange_character_in_a_subject_is_named(mark: str) -> None:
    prompt = "Mira S\u043elen is in" if mark == "\u043e" else f"Mira{mark}Solen is in"
    with pytest.raises(InputError) as raised:
        SCHEMAS["facts"].read({"prompt": prompt, "subject": "Mira Solen", "target_new": "b"}, 0, "d")
    assert f"U+{ord(mark):04X}" in str(raised.value.remedy)


def test_an_answer_of_the_service_for_rows_is_read_where_it_is_whole() -> None:
    rows = [{"row_idx": 0, "row": {"prompt": "a"}, "truncated_cells": []}]
    assert unwrapped({"features": [], "rows": rows, "num_rows_total": 1}, where="d") == [{"prompt": "a"}]
    with pytest.raises(InputError, match="1 of 9 rows"):
        unwrapped({"rows": rows, "num_rows_total": 9}, where="d")
    with pytest.raises(InputError, match="cut off"):
        unwrapped({"rows": [{**rows[0], "truncated_cells": ["prompt"]}]}, where="d")


def test_a_table_of_blanks_holds_no_record(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("  \n \n")
    with pytest.raises(InputError, match="holds no record"):
        read_records(path)
