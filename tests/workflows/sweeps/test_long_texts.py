"""A sweep whose records are longer than the model's positions: refused before anything is written, or left out."""

import json
from pathlib import Path

import pytest
from command_line import sphere, squeezed
from sweep_files import tiny, write_sweep

from sphere_core.foundation.errors import InputError
from sphere_core.streams.stream import load_stream
from workflows.sweeps.expand import load_sweep

LONG = "In the long history of the old harbour towns, where ships came and went, " * 8


def facts(folder: Path, *long: int) -> Path:
    records = [
        {"prompt": "{} was born in", "subject": f"Person {place}", "target_new": "Quint", "case_id": f"c{place}"}
        for place in range(4)
    ]
    for place in long:
        records[place]["paraphrase_prompts"] = LONG + f"Person {place} was born in"
    path = folder / "facts.json"
    path.write_text(json.dumps(records))
    return path


def sweep(folder: Path, **stream: object) -> Path:
    streams = [{"dataset": "facts", "path": "facts.json", **stream}]
    return write_sweep(folder, tiny(streams=streams, seeds=[0], batch_size=1, checkpoint_every=2))


def test_one_long_paraphrase_is_refused_by_case_and_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts(tmp_path, 2)
    path = sweep(tmp_path, edits=4)
    assert sphere(monkeypatch, "run", path, "--local", "--root", tmp_path / "root") == 2
    screen = squeezed(capsys.readouterr().err)
    for said in ("facts.json, case c2, field probe 1 (paraphrase)", "the model has 128 positions", "too_long: skip"):
        assert squeezed(said) in screen
    assert not (tmp_path / "root").exists()


def test_a_long_record_beyond_the_stream_is_none_of_it(tmp_path: Path) -> None:
    facts(tmp_path, 3)
    assert load_sweep(sweep(tmp_path, edits=2)).plan.edits > 0


def test_long_records_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    facts(tmp_path, 0, 2)
    found = load_sweep(sweep(tmp_path, edits=2, too_long="skip"))
    spec = next(iter(found.specs.values()))
    assert spec.stream.left_out == (0, 2)
    assert [request.case_id for request in load_stream(spec.stream, 0)] == ["c1", "c3"]
    (note,) = found.notes
    assert "2 records are left out" in note
    assert "case c0, probe 1 (paraphrase)" in note
    with pytest.raises(InputError, match="the data set has 2"):
        load_sweep(sweep(tmp_path, edits=3, too_long="skip"))


def test_the_plan_of_a_stream_that_fits_does_not_change(tmp_path: Path) -> None:
    facts(tmp_path)
    plain = load_sweep(sweep(tmp_path, edits=4))
    skipping = load_sweep(sweep(tmp_path, edits=4, too_long="skip"))
    assert plain.plan.model_dump_json() == skipping.plan.model_dump_json()
