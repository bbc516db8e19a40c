"""Orders of a stream: seeded, by relation, given by a file; and streams that contradict themselves."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from repository import DATASETS

from sphere_core.datasets.records import Record
from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, overwritten_cases, requests_digest
from sphere_core.streams.conflicts import Conflicts
from sphere_core.streams.order_files import OrderFile, records_digest
from sphere_core.streams.orders import spread
from sphere_core.streams.stream import StreamSpec, load_stream

WORLD = read_dataset(DatasetSpec(dataset="factworld")).records
EDITS = 120


def world(order: Any = "canonical", seed: int = 0, edits: int = EDITS, **more: Any) -> tuple[EditRequest, ...]:
    return load_stream(StreamSpec(dataset="factworld", edits=edits, order=order, **more), seed)


def relations(stream: tuple[EditRequest, ...]) -> list[str]:
    return [str(request.relation) for request in stream]


def changes(stream: tuple[EditRequest, ...]) -> int:
    """How often the relation is another than the one before."""
    return sum(one != other for one, other in pairwise(relations(stream)))


def test_streams_that_have_been_edited_are_the_same_streams() -> None:
    """Trajectories on disk are found by these digests."""
    digests = {
        (order, seed): requests_digest(world(order, seed, 500))[:16]
        for order in ("canonical", "shuffled")
        for seed in (0, 1)
    }
    assert digests == {
        ("canonical", 0): "ee12393055253434",
        ("canonical", 1): "ee12393055253434",
        ("shuffled", 0): "93500365871e9b32",
        ("shuffled", 1): "3f0fcdedf8b3be93",
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_clustered_and_dispersed_are_orders_of_the_same_edits(seed: int) -> None:
    shuffled = world("shuffled", seed)
    clustered = world({"clustered": "relation"}, seed)
    dispersed = world({"dispersed": "relation"}, seed)
    assert {r.case_id for r in clustered} == {r.case_id for r in dispersed} == {r.case_id for r in shuffled}
    kinds = len(set(relations(shuffled)))
    assert kinds > 3
    assert changes(clustered) == kinds - 1
    # A plain shuffle repeats a relation every so often; the dispersed order hardly ever does.
    assert changes(clustered) < changes(shuffled) < changes(dispersed)
    assert dispersed != world({"dispersed": "relation"}, seed + 1)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_spreading_keeps_every_group_even(sizes: list[int]) -> None:
    groups = [[Record(f"{g}.{i}", ()) for i in range(size)] for g, size in enumerate(sizes)]
    order = [record.case_id for record in spread(groups)]
    assert Counter(order) == Counter(record.case_id for group in groups for record in group)
    total = len(order)
    for group in groups:
        places = [order.index(record.case_id) for record in group]
        assert places == sorted(places)
        # Each member stands within one place a group of where an even spacing would put it.
        for member, place in enumerate(places):
            assert abs(place + 0.5 - total * (2 * member + 1) / (2 * len(group))) <= len(groups)


def write_order(folder: Path, value: object) -> dict[str, str]:
    path = folder / "order.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return {"given": str(path)}


def order_file(**more: Any) -> dict[str, Any]:
    fields = {"dataset": "factworld", "dataset_digest": records_digest(WORLD), "order": "clustered", "seed": 0}
    return OrderFile(**{**fields, "similarity": {"model": "x"}, "cases": ("7", "3"), **more}).model_dump(mode="json")


@pytest.mark.parametrize(
    "value",
    [["7", "3"], [7, 3], {"cases": [7, "3"]}, {"indices": [7, 3]}, "7\n3\n\n", order_file()],
    ids=["texts", "numbers", "cases", "indices", "lines", "written"],
)
def test_a_given_order(tmp_path: Path, value: object) -> None:
    found = world(write_order(tmp_path, value), edits=2)
    assert [request.case_id for request in found] == ["7", "3"]


@pytest.mark.parametrize(
    ("value", "what", "place"),
    [
        ([7, 3, 7], "'7' is given twice", "order.json"),
        ([7, 99999], "'99999' is not in the data set", "entry 1"),
        ({"indices": [-1]}, "the index '-1' is not in the data set", "entry 0"),
        ([], "a list of case ids is expected", "order.json"),
        ({"order": [1]}, "does not say which records", "order.json"),
        ("[1, ", "not valid JSON", "line 1"),
        (order_file(dataset_digest="0" * 64), "written for another data set", "field dataset_digest"),
        ({**order_file(), "seed": "x"}, "not an order file", "field seed"),
    ],
)
def test_faults_in_a_given_order(tmp_path: Path, value: object, what: str, place: str) -> None:
    with pytest.raises(InputError) as raised:
        world(write_order(tmp_path, value), edits=1)
    assert what in raised.value.what
    assert place in str(raised.value.where)
    assert raised.value.remedy


def test_a_given_order_shorter_than_the_stream(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="requires 3 edits, the data set has 2") as raised:
        world(write_order(tmp_path, [7, 3]), edits=3)
    assert "order.json" in str(raised.value.where)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("shufled", "unknown order 'shufled': did you mean 'shuffled'"),
        ("given", "write {given: FILE}"),
        ("clustered", "write {clustered: relation}"),
        ({"sorted": "x"}, "unknown order 'sorted'"),
        ({"kind": "shuffled", "file": "x"}, "write {given: FILE}"),
        ({"clustered": "keys"}, "Input should be 'relation'"),
    ],
)
def test_an_order_that_is_none(order: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StreamSpec.model_validate({"dataset": "factworld", "edits": 1, "order": order})


def test_edits_of_one_record_stay_together() -> None:
    spec = {"dataset": "mquake", "path": str(DATASETS / "mquake_cf.json"), "order": "shuffled"}
    seen = set()
    for seed in range(8):
        cases = tuple(request.case_id for request in load_stream(StreamSpec(edits=3, **spec), seed))
        seen.add(cases)
    assert seen == {("1.1", "1.2", "2.1"), ("2.1", "1.1", "1.2")}
    # A record that is cut has not had all its edits: nobody asks what follows from them.
    cut = load_stream(StreamSpec(edits=1, **{**spec, "order": "canonical"}), 0)
    assert [probe.role for request in cut for probe in request.probes] == ["rewrite", "paraphrase"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("order", ["canonical", "shuffled"])
def test_conflicts_contradict_at_their_distance(order: str, seed: int) -> None:
    stream = world(order, seed, conflicts={"share": 0.2, "distance": 30})
    places = {request.case_id: place for place, request in enumerate(stream)}
    against = [request for request in stream if request.supersedes is not None]
    assert len(places) == EDITS
    assert len(against) == 24
    for later in against:
        earlier = stream[places[str(later.supersedes)]]
        assert places[later.case_id] - places[earlier.case_id] == 30
        assert (later.prompt, later.subject) == (earlier.prompt, earlier.subject)
        assert later.target_new not in (earlier.target_new, earlier.target_true)
        assert later.target_new in {r.requests[0].target_new for r in WORLD if r.requests[0].relation == later.relation}
        by_role = {probe.role: (probe.target, probe.contrast) for probe in later.probes}
        assert by_role["rewrite"] == by_role["paraphrase"] == (later.target_new, earlier.target_new)
        if "neighborhood" in by_role:
            assert by_role["neighborhood"] == (earlier.target_true, later.target_new)
    # What is not contradicted is the stream without conflicts, in its order.
    plain = [request for request in stream if request.supersedes is None]
    assert plain == list(world(order, seed, edits=EDITS - 24))
    assert overwritten_cases(stream) == {request.supersedes for request in against}
    assert stream != world(order, seed + 1, conflicts={"share": 0.2, "distance": 30})


def test_a_fact_in_several_wordings_is_asked_by_those_that_were_not_written() -> None:
    plain = world("shuffled", 1, edits=20)
    stream = world("shuffled", 1, edits=40, paraphrases=1)
    assert [request.case_id for request in stream[::2]] == [request.case_id for request in plain]
    for fact, wording, before in zip(stream[::2], stream[1::2], plain, strict=True):
        assert (wording.subject, wording.target_new, wording.probes) == (fact.subject, fact.target_new, ())
        assert wording.prompt != fact.prompt
        (written,) = [probe for probe in before.probes if probe not in fact.probes]
        assert (written.role, written.prompt) == ("paraphrase", wording.question)
        assert [probe for probe in before.probes if probe != written] == list(fact.probes)
    assert StreamSpec(dataset="factworld", edits=4, paraphrases=1).order_name == "canonical+paraphrases:1"
    with pytest.raises(InputError, match="not facts in 2 wordings"):
        world(edits=41, paraphrases=1)
    with pytest.raises(InputError, match="conflicts or paraphrases"):
        world(edits=40, paraphrases=1, conflicts={"share": 0.2, "distance": 5})
    with pytest.raises(InputError, match="50 wordings are requested and"):
        world(edits=51, paraphrases=50)


def test_conflicts_that_cannot_be_had(tmp_path: Path) -> None:
    facts = tmp_path / "facts.csv"
    facts.write_text("case_id,prompt,subject,target_new\n" + "7,Ilka Torm plays,Ilka Torm,harp\n" * 3)
    twice = StreamSpec(dataset="facts", path=str(facts), edits=3, conflicts=Conflicts(share=0.3, distance=1))
    with pytest.raises(InputError, match="case ids that are unique"):
        load_stream(twice, 0)
    with pytest.raises(InputError, match="do not fit into 10 edits"):
        world(edits=10, conflicts={"share": 0.5, "distance": 9})
    path = str(DATASETS / "mquake_cf.json")
    several = StreamSpec(dataset="mquake", path=path, edits=3, conflicts=Conflicts(share=0.3, distance=1))
    with pytest.raises(InputError, match="one edit per record"):
        load_stream(several, 0)


def test_an_answer_of_any_relation_where_a_relation_has_no_other() -> None:
    spec = StreamSpec(
        dataset="zsre",
        path=str(DATASETS / "zsre_mend_eval.json"),
        edits=4,
        conflicts=Conflicts(share=0.25, distance=2),
    )
    (later,) = [request for request in load_stream(spec, 0) if request.supersedes is not None]
    assert later.target_new in {"Quint", "Dario Venn", "old violin"} - {str(later.target_true)}


SAMPLES = {"0": [7, 3], "1": [3, 7], "late": [5]}


@pytest.mark.parametrize(
    ("sample", "seed", "places"),
    [(0, 4, [7, 3]), ("1", 4, [3, 7]), ("late", 4, [5]), ("seed", 0, [7, 3]), ("seed", 1, [3, 7])],
)
def test_one_of_several_orders(tmp_path: Path, sample: object, seed: int, places: list[int]) -> None:
    order = {**write_order(tmp_path, SAMPLES), "sample": sample}
    found = world(order, seed, edits=len(places))
    assert [request.case_id for request in found] == [WORLD[place].case_id for place in places]
    spec = StreamSpec(dataset="factworld", edits=1, order=order)
    assert (spec.order_name, spec.is_seeded) == (f"given:order:{sample}", sample == "seed")


@pytest.mark.parametrize(
    ("value", "sample", "what"),
    [
        (SAMPLES, None, "the file holds 3 orders: 0, 1, late"),
        (SAMPLES, "2", "unknown sample '2'"),
        (SAMPLES, "seed", "unknown sample '9'"),
        ({"0": [7], "1": 3}, "0", "does not say which records"),
        ([7, 3], "0", "holds one order, and no samples"),
        ({"0": [9999]}, "0", "the index '9999' is not in the data set"),
        ({"0": [True]}, "0", "the list '0' of case ids is expected"),
    ],
)
def test_faults_in_samples(tmp_path: Path, value: object, sample: str | None, what: str) -> None:
    order: dict[str, object] = write_order(tmp_path, value)  # type: ignore[assignment]
    with pytest.raises(InputError) as raised:
        world(order if sample is None else {**order, "sample": sample}, 9, edits=1)
    assert what in raised.value.what
    assert raised.value.remedy


@pytest.mark.parametrize("text", ["\ufeff[7, 3]", "\ufeff7\n3\n", "case_id\n7\n3\n", "7\r\n3\r\n"])
def test_texts_of_an_order(tmp_path: Path, text: str) -> None:
    path = tmp_path / "order.txt"
    path.write_text(text)
    assert [request.case_id for request in world({"given": str(path)}, edits=2)] == ["7", "3"]


def test_records_that_are_left_out_keep_the_places_of_the_others(tmp_path: Path) -> None:
    records = [{"prompt": "{} is in", "subject": f"Town {place}", "target_new": "Quint"} for place in range(4)]
    records[1]["prompt"] = "Town 1 or Town 1 is in"
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(records))
    order = write_order(tmp_path, {"indices": [3, 1, 0]})
    spec = {"dataset": "facts", "path": str(path), "incomplete": "skip"}
    given = load_stream(StreamSpec(edits=2, order=order, **spec), 0)
    assert [request.subject for request in given] == ["Town 3", "Town 0"]
    for kind in ("canonical", "shuffled", {"clustered": "relation"}, {"dispersed": "relation"}):
        found = load_stream(StreamSpec(edits=3, order=kind, **spec), 0)
        assert sorted(request.subject for request in found) == ["Town 0", "Town 2", "Town 3"]
    with pytest.raises(InputError, match="the data set has 3"):
        load_stream(StreamSpec(edits=4, **spec), 0)
