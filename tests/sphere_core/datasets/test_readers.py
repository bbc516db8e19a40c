"""Readers of MQuAKE, own facts and the hub; columnar files; snippets; every fault names file, record and field."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from repository import DATASETS

from sphere_core.datasets.files import read_records
from sphere_core.datasets.hub import _commit_in, check_hub_id, hub_records
from sphere_core.datasets.records import Record
from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.requests import EditRequest

FILES = {
    "counterfact": "counterfact.json",
    "multi_counterfact": "counterfact.json",
    "zsre": "zsre_mend_eval.json",
    "mquake": "mquake_cf.json",
    "facts": "facts.jsonl",
}


def read(schema: str, path: Path | str, **more: Any) -> tuple[Record, ...]:
    return read_dataset(DatasetSpec(dataset=schema, path=str(path), **more)).records


def single(record: Record) -> EditRequest:
    (request,) = record.requests
    return request


def as_parquet(source: Path, folder: Path) -> Path:
    path = folder / f"{source.stem}.parquet"
    records = read_records(source)
    names = dict.fromkeys(name for record in records for name in record)
    pq.write_table(pa.Table.from_pylist([{name: record.get(name) for name in names} for record in records]), path)
    return path


@pytest.mark.parametrize("schema", FILES)
def test_parquet_and_json_lines_give_the_same_requests_as_json(schema: str, tmp_path: Path) -> None:
    source = DATASETS / FILES[schema]
    expected = read(schema, source)
    lines = tmp_path / "records.jsonl"
    lines.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in read_records(source)))
    assert read(schema, lines) == expected
    # Arrow gives every record every field; what a record does not have is null there.
    assert read(schema, as_parquet(source, tmp_path)) == expected


def test_counterfact_keeps_relation_and_generation_prompts() -> None:
    request = single(read("counterfact", DATASETS / "counterfact.json")[0])
    assert request.relation == "P19"
    assert len(request.generation_prompts) == 3
    assert request.reference_texts == ()


def test_snippets_become_reference_texts_of_their_relation_and_target(tmp_path: Path) -> None:
    snippets = DATASETS / "attribute_snippets.json"
    records = read("counterfact", DATASETS / "counterfact.json", snippets=str(snippets))
    assert [len(single(record).reference_texts) for record in records] == [2, 0, 0, 0]
    assert "Odo Falk" in single(records[0]).reference_texts[0]
    other = tmp_path / "snippets.json"
    other.write_text(json.dumps(json.loads(snippets.read_text())[1:]))
    with pytest.raises(InputError, match="nothing about any record"):
        read("counterfact", DATASETS / "counterfact.json", snippets=str(other))


def test_mquake_asks_its_questions_with_the_last_edit() -> None:
    first, second = read("mquake", DATASETS / "mquake_cf.json")
    assert [request.case_id for request in first.requests] == ["1.1", "1.2"]
    assert first.case_id == "1"
    assert [probe.role for probe in first.requests[0].probes] == ["rewrite", "paraphrase"]
    hops = [probe for probe in first.requests[1].probes if probe.role == "multi_hop"]
    # Three questions, each with the answer and its two aliases; one right answer among them is enough.
    assert len(hops) == 3 * 3
    assert {probe.group for probe in hops} == {"1"}
    assert [probe.target for probe in hops[:3]] == ["Runa Meck", "R. Meck", "Mayor Meck"]
    assert {probe.contrast for probe in hops} == {"Teo Lind"}
    assert [probe.role for probe in single(second).probes] == ["rewrite", "paraphrase", *["multi_hop"] * 3]


def test_the_flat_names_of_mquake_remastered_read_the_same(tmp_path: Path) -> None:
    records = json.loads((DATASETS / "mquake_cf.json").read_text())
    for record in records:
        for entry in record["requested_rewrite"]:
            for name in ("target_new", "target_true"):
                target = entry.pop(name)
                entry |= {f"{name}_str": target["str"], f"{name}_id": target["id"]}
    path = tmp_path / "flat.json"
    path.write_text(json.dumps(records))
    assert read("mquake", path) == read("mquake", DATASETS / "mquake_cf.json")


def test_own_facts_as_csv() -> None:
    first, second = (single(record) for record in read("facts", DATASETS / "facts.csv"))
    assert (first.prompt, first.target_true) == ("{} was born in", "Harbel")
    assert [(p.role, p.prompt, p.target, p.contrast) for p in first.probes] == [
        ("rewrite", "Mira Solen was born in", "Quint", "Harbel"),
        ("paraphrase", "The birthplace of Mira Solen is", "Quint", "Harbel"),
        ("paraphrase", "Mira Solen comes from", "Quint", "Harbel"),
        ("neighborhood", "Odo Falk was born in", "Harbel", "Quint"),
    ]
    assert (second.question, second.target_true) == ("The tower of Harbel is painted", None)
    assert [record.case_id for record in read("facts", DATASETS / "facts.csv")] == ["0", "1"]


def test_own_facts_bring_their_own_probes() -> None:
    tower = single(read("facts", DATASETS / "facts.jsonl")[0])
    assert [(probe.role, probe.target) for probe in tower.probes] == [("rewrite", "green"), ("portability", "green")]
    assert tower.generation_prompts == ("Seen from the river, the tower of Harbel",)


FACT = {"prompt": "{} was born in", "subject": "Mira Solen", "target_new": "Quint"}


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"prompt": "She was born in"}, "'Mira Solen' does not occur in the prompt", "write the subject exactly"),
        ({"prompt": "Mira Solen is Mira Solen of"}, "occurs 2 times", "write '{}'"),
        ({"target_new": " "}, "field 'target_new' must be a non-empty text", "write a text"),
        ({"target_new": None}, "field 'target_new' is missing", "every record needs"),
        ({"paraphrase": "x"}, "unknown field 'paraphrase'", "did you mean 'paraphrase_prompts'?"),
        ({"neighborhood_prompts": ["Odo Falk was born in"]}, "the record has none", "give 'target_true'"),
        ({"paraphrase_prompts": "[1, 2"}, "not valid JSON", "write one text, or a JSON list"),
        ({"paraphrase_prompts": [1]}, "must be a list of texts", "write a list"),
        ({"probes": [{"role": "multihop", "prompt": "a", "target": "b"}]}, "unknown role", "did you mean 'multi_hop'?"),
        ({"probes": [{"role": "rewrite", "promt": "a"}]}, "field of a probe 'promt'", "did you mean 'prompt'?"),
        ({"probes": [1]}, "must be a list of objects", "for example"),
    ],
)
def test_faults_in_own_facts(tmp_path: Path, change: dict[str, Any], what: str, remedy: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps(FACT) + "\n" + json.dumps({**FACT, **change}))
    with pytest.raises(InputError) as raised:
        read("facts", path)
    assert what in raised.value.what
    assert f"{path}, record 1 (case 1)" in str(raised.value.where)
    assert remedy in str(raised.value.remedy)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"requested_rewrite": {"prompt": "x"}}, "must be a list of edits"),
        ({"questions": []}, "holds no question"),
        ({"new_answer": ""}, "'new_answer' must be a non-empty text"),
        ({"requested_rewrite": [{"prompt": "{} is", "subject": "Quint"}]}, "'target_new' is missing"),
    ],
)
def test_faults_in_mquake_records(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    record = {**json.loads((DATASETS / "mquake_cf.json").read_text())[0], **change}
    path = tmp_path / "mquake.json"
    path.write_text(json.dumps([record]))
    with pytest.raises(InputError) as raised:
        read("mquake", path)
    assert what in raised.value.what
    assert f"{path}, record 0 (case 1)" in str(raised.value.where)
    assert raised.value.remedy


def test_the_wrong_schema_is_recognised_from_the_first_record() -> None:
    with pytest.raises(InputError, match="'requested_rewrite' must be a list of edits"):
        read("mquake", DATASETS / "counterfact.json")
    with pytest.raises(InputError, match=r"field 'requested_rewrite' is missing"):
        read("counterfact", DATASETS / "zsre_mend_eval.json")
    with pytest.raises(InputError, match="field 'src' is missing"):
        read("zsre", DATASETS / "facts.csv")


@pytest.mark.parametrize(
    ("name", "content", "what", "place"),
    [
        ("a.csv", "prompt,subject\nx,y,z\n", "does not have the 2 cells", "line 2"),
        ("a.csv", 'prompt,subject\n"x,y\n', "not valid CSV", "a.csv"),
        ("a.csv", "prompt,subject,prompt\nx,y,z\n", "two columns are called 'prompt'", "line 1"),
        ("a.csv", "prompt;subject\nx;y\n", "the columns are separated by ';'", "line 1"),
        ("a.parquet", "not parquet", "cannot be read (ArrowInvalid", "a.parquet"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "not valid JSON", "line 2"),
        ("a.json", "\udcff", "not UTF-8 text", "a.json"),
    ],
)
def test_broken_columnar_files(tmp_path: Path, name: str, content: str, what: str, place: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as raised:
        read_records(path)
    assert what in raised.value.what
    assert place in str(raised.value.where)


def test_a_line_separator_inside_a_text_ends_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "one\u2028line"}\n{"a": "two"}\n', encoding="utf-8")
    assert len(read_records(path)) == 2
    table = tmp_path / "a.csv"
    table.write_text('a,b\none\u2028line,1\n"two\nlines",2\n', encoding="utf-8")
    assert [record["a"] for record in read_records(table)] == ["one\u2028line", "two\nlines"]


def test_a_byte_order_mark_is_no_part_of_the_records(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": "one"}]', encoding="utf-8-sig")
    assert read_records(path) == [{"a": "one"}]


def test_a_probe_without_text_is_refused(tmp_path: Path) -> None:
    records = json.loads((DATASETS / "counterfact.json").read_text())
    records[1]["paraphrase_prompts"][1] = " "
    path = tmp_path / "counterfact.json"
    path.write_text(json.dumps(records))
    with pytest.raises(InputError, match="entry 1 of field 'paraphrase_prompts' is empty") as raised:
        read("counterfact", path)
    assert "record 1 (case 1), field paraphrase_prompts" in str(raised.value.where)


def test_hash_and_count_are_what_was_asked_for() -> None:
    path = DATASETS / "counterfact.json"
    digest = file_digest(path)
    assert len(read("counterfact", path, sha256=digest, records=4)) == 4
    with pytest.raises(InputError, match="hashes to"):
        read("counterfact", path, sha256="0" * 64)
    with pytest.raises(InputError, match="has 4 records, not the required 21919"):
        read("counterfact", path, records=21919)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "zsre"}, "needs a path"),
        ({"dataset": "factworld", "path": "x"}, "brings its own"),
        ({"dataset": "zsre", "hub": "a/b"}, "needs 'revision'"),
        ({"dataset": "zsre", "path": "x", "revision": "main"}, "belongs to a 'hub' id"),
        ({"dataset": "zsre", "path": "x", "snippets": "y"}, "belong to CounterFact"),
        ({"dataset": "zsre", "hub": "a/b", "revision": "main", "sha256": "0" * 64}, "belongs to a 'path'"),
    ],
)
def test_a_source_is_one_thing(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DatasetSpec.model_validate(fields)


def test_a_hub_data_set_is_read_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of Parquet files stands for the repository: the library reads both by the same way."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repository"
    folder.mkdir()
    source = as_parquet(DATASETS / "mquake_cf.json", folder)
    source.rename(folder / "train-00000-of-00001.parquet")
    found = hub_records(str(folder), revision="main", config=None, split=None, file=None)
    assert found.records == read_records(folder / "train-00000-of-00001.parquet")
    assert found.commit is None
    (folder / "test-00000-of-00001.parquet").write_bytes((folder / "train-00000-of-00001.parquet").read_bytes())
    with pytest.raises(InputError, match="several splits") as raised:
        hub_records(str(folder), revision="main", config=None, split=None, file=None)
    assert "train" in str(raised.value.remedy)
    assert len(hub_records(str(folder), revision="main", config=None, split="test", file=None).records) == 2


def test_a_file_of_a_hub_repository_is_pinned_to_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "datasets--made-up--facts"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit / "data").mkdir(parents=True)
    shutil.copy(DATASETS / "counterfact.json", cached / "snapshots" / commit / "data")
    spec = {"dataset": "counterfact", "hub": "made-up/facts", "file": "data/counterfact.json"}
    found = read_dataset(DatasetSpec(revision="main", **spec))
    assert found.commit == commit
    assert found.records == read("counterfact", DATASETS / "counterfact.json")
    assert read_dataset(DatasetSpec(revision=commit, **spec)).records == found.records
    # What the library calls the files of a data set it reads itself.
    assert _commit_in([f"hf://datasets/made-up/facts@{commit}/data/train.parquet"]) == commit
    with pytest.raises(InputError, match="cannot be read from the hub"):
        read_dataset(DatasetSpec(revision="v2", **spec))


@pytest.mark.parametrize("file", [None, "multi_counterfact.json"])
def test_a_hub_id_that_cannot_be_reached(file: str | None) -> None:
    with pytest.raises(InputError, match="cannot be read from the hub") as raised:
        hub_records("nobody/nothing-here", revision="abc", config=None, split=None, file=file)
    assert "nobody/nothing-here at abc" in str(raised.value.where)
    assert "offline" in str(raised.value.remedy)
    with pytest.raises(InputError, match="not the id of a data set"):
        check_hub_id("./multi_counterfact.json")
