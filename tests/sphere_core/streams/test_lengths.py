"""Texts longer than a model's positions: refused by case and field before anything is edited, or left out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eval_parts import tiny_llama

from sphere_core.datasets.records import Record
from sphere_core.foundation.errors import InputError
from sphere_core.locate.templates import ContextSettings
from sphere_core.requests import EditRequest, KnownFact, Probe
from sphere_core.streams.lengths import (
    ReadingRoom,
    first_long_text,
    long_records,
    refuse_long,
    sampled_tokens,
)
from sphere_core.streams.model_room import room_of_model
from sphere_core.streams.stream import StreamSpec, load_stream

LONG = "and so it went on in the old town by the sea " * 6
SHORT = EditRequest("c1", "{} was born in", "Mira", "Quint", "Harbel", (Probe("rewrite", "Mira was born in", "Quint"),))


def words(text: str) -> int:
    return len(text.split())


def room(**more: Any) -> ReadingRoom:
    return ReadingRoom(20, words, **more)


def with_probe(**fields: Any) -> EditRequest:
    return replace(SHORT, probes=(*SHORT.probes, Probe(**fields)))


def with_condition(prompt: str, *answers: str) -> EditRequest:
    return with_probe(role="portability", prompt="Odo", target="x", known_before=(KnownFact(prompt, answers),))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (replace(SHORT, prompt="{} " + LONG), "prompt with target_new"),
        (replace(SHORT, subject=LONG), "prompt with target_new"),
        (replace(SHORT, target_new=LONG), "prompt with target_new"),
        (with_probe(role="paraphrase", prompt=LONG, target="Quint"), "probe 1 (paraphrase)"),
        (with_probe(role="neighborhood", prompt="Odo", target=LONG), "probe 1 (neighborhood)"),
        (with_probe(role="portability", prompt="Odo", target="x", contrast=LONG), "probe 1 (portability)"),
        (replace(SHORT, generation_prompts=("a", LONG)), "generation_prompts[1]"),
        (with_condition(LONG, "x"), "condition of probe 1 (portability)"),
        (with_condition("Odo is", "x", LONG), "condition of probe 1 (portability)"),
    ],
)
def test_every_text_that_is_read_is_measured(request_: EditRequest, field: str) -> None:
    found = first_long_text(request_, room())
    assert found is not None
    assert (found.case_id, found.field) == ("c1", field)
    assert found.tokens > 20
    assert first_long_text(SHORT, room()) is None


def test_templates_are_read_too() -> None:
    edited = replace(SHORT, prompt="{} " + "word " * 12)
    assert first_long_text(edited, room()) is None
    assert first_long_text(edited, room(templates=("{}", "a b c d e f g h i. {}"))) is not None
    assert first_long_text(edited, room(sampled=12)) is not None
    assert sampled_tokens(ContextSettings(length=10), len) == 12
    assert sampled_tokens(ContextSettings(length=10, seeds=("The", "x" * 500)), len) == 502
    assert sampled_tokens(None, len) == 0


def test_the_last_token_is_predicted_and_not_read() -> None:
    exact = replace(SHORT, prompt="{} " + "word " * 18, target_new="end", probes=())
    assert words(f"{exact.question} end") == 20
    assert first_long_text(exact, ReadingRoom(19, words)) is None
    assert first_long_text(exact, ReadingRoom(18, words)) is not None


def test_short_texts_are_never_encoded() -> None:
    def fails(text: str) -> int:
        raise AssertionError(text)

    assert first_long_text(SHORT, ReadingRoom(128, fails)) is None


def test_the_first_one_and_the_count_are_named() -> None:
    long = replace(SHORT, case_id="c2", target_new=LONG)
    with pytest.raises(InputError) as raised:
        refuse_long([SHORT, long, long], room(), source="facts.json")
    assert "the model has 20 positions (and 1 more records)" in raised.value.what
    assert "facts.json, case c2, field prompt with target_new" in str(raised.value.where)
    assert "too_long: skip" in str(raised.value.remedy)
    assert len(str(raised.value)) < 500
    refuse_long([SHORT], room(), source="facts.json")
    records = [Record("c1", (SHORT,)), Record("c2", (SHORT, long)), Record("c3", ())]
    assert list(long_records(records, room())) == [1]


def test_a_loaded_model_counts_with_its_own_tokenizer() -> None:
    model = tiny_llama()
    found = room_of_model(model, sampled=ContextSettings(length=10))
    assert found is not None
    assert found.positions == model.network.config.max_position_embeddings
    assert found.count("Mira was born in Quint") == len(model.tokenizer("Mira was born in Quint")["input_ids"])
    assert first_long_text(replace(SHORT, target_new=LONG * 3), found) is not None
    assert first_long_text(SHORT, found) is None


@pytest.mark.parametrize("order", ["canonical", "shuffled", "given"])
def test_records_at_places_that_are_left_out_are_in_no_stream(tmp_path: Path, order: str) -> None:
    facts = [{"prompt": "{} is in", "subject": f"Town {place}", "target_new": "Quint"} for place in range(5)]
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(facts))
    given = tmp_path / "order.json"
    given.write_text(json.dumps({"indices": [4, 3, 2, 1, 0]}))
    chosen = {"given": str(given)} if order == "given" else order
    spec = StreamSpec(dataset="facts", path=str(path), edits=3, order=chosen, left_out=(1, 3))  # type: ignore[arg-type]
    subjects = [request.subject for request in load_stream(spec, 0)]
    assert sorted(subjects) == ["Town 0", "Town 2", "Town 4"]
    assert order != "given" or subjects == ["Town 4", "Town 2", "Town 0"]
