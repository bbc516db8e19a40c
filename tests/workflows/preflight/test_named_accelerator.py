"""`sphere doctor MODEL --accelerator NAME`: what fits on a card that is not here, and the remedy that would help."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from command_line import sphere, squeezed
from repository import EXAMPLES

from sphere_core.costs import accelerator
from sphere_core.costs.accelerators import Accelerator
from workflows.preflight.machine import Finding
from workflows.preflight.model import examine
from workflows.preflight.stages import Room, stage_findings

LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"


def found(room: Room, **changes: object) -> dict[tuple[str, str], Finding]:
    asked = {"method": "alphaedit+sphere", "preset_name": "llama3-8b", "dtype": "bfloat16", "batch": 100, "edits": 3000}
    findings = stage_findings(examine(LLAMA, revision=None), **{**asked, **changes}, room=room)  # type: ignore[arg-type]
    return {(finding.part, finding.what): finding for finding in findings}


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    sphere(monkeypatch, "doctor", LLAMA, "--json", *arguments)
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {f"{finding['part']}, {finding['what']}": finding["found"] for finding in findings}


def test_a_large_card_has_room_for_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(monkeypatch, capsys, "--preset", "llama3-8b", "--edits", 3000, "--accelerator", "h100")
    assert lines["placement, targets"] == "100 requests of a batch of 100 in a pass"
    assert str(lines["placement, solvers"]).startswith("beside the layers on the accelerator")
    assert lines["placement, null spaces"] == "found on the accelerator"
    assert lines["placement, decompositions"] == "beside the targets"
    # Nothing is known of that machine's host.
    assert lines["peak memory, load"] == "16.1 GB of 80.0 GB on one h100, 0.8 GB on the host"


def test_a_long_stream_takes_two_equal_passes_and_hides_its_decompositions() -> None:
    card = found(Room.named(accelerator("h100")), edits=15_000)
    assert card["placement", "targets"].found == "50 requests of a batch of 100 in a pass"
    assert card["placement", "decompositions"].found == "beside the targets"
    assert "missing" not in {finding.state for finding in card.values()}


def test_what_falls_back_on_a_small_card_is_named() -> None:
    card = found(Room.named(accelerator("rtx4090")))
    solvers = card["placement", "solvers"]
    assert solvers.found.startswith("1 of 5 layers on the accelerator, 4 on the host (5, 6, 7, 8), ")
    assert solvers.state == card["placement", "null spaces"].state == "note"
    assert card["placement", "null spaces"].found == "found on the host"
    assert card["placement", "targets"].found == "10 requests of a batch of 100 in a pass"
    assert "missing" not in {finding.state for finding in card.values()}


def test_weights_that_do_not_fit_are_not_helped_by_smaller_passes() -> None:
    card = found(Room.named(accelerator("rtx4090")), dtype="float32")
    stages = {what: finding for (part, what), finding in card.items() if part == "peak memory"}
    assert {finding.state for finding in stages.values()} == {"missing"}
    remedy = stages["load"].remedy or ""
    for way in ("'dtype: bfloat16'", "'device: split'", "a larger one"):
        assert way in remedy
    assert {stages[what].remedy for what in ("targets", "write", "score")} == {"the weights alone do not fit"}
    assert not [part for part, _ in card if part == "placement"]


def test_half_precision_is_no_remedy_where_it_is_used() -> None:
    tiny = found(Room.named(Accelerator("tiny", 1e12, 1e12, 10e9)))
    remedy = tiny["peak memory", "load"].remedy or ""
    assert "'device: split'" in remedy
    assert "dtype" not in remedy


def test_a_stage_that_does_not_fit_has_a_remedy_that_helps() -> None:
    with_passes = found(Room(0.0, 0.0, 60e9, ""), dtype="float32", batch=100)["peak memory", "targets"]
    assert (with_passes.state, with_passes.remedy) == ("missing", "a smaller 'requests_per_pass'")
    # The weights fit into a third more, one request of targets does not.
    one = found(Room(17e9, 17e9, None, "on one small"))["peak memory", "targets"]
    assert one.state == "missing"
    assert "requests_per_pass" not in (one.remedy or "")
    assert "'device: split'" in (one.remedy or "")


def test_a_card_that_others_use_is_not_too_small() -> None:
    load = found(Room(80e9, 10e9, 64e9, "free on the accelerator"))["peak memory", "load"]
    assert load.state == "missing"
    assert "other processes" in (load.remedy or "")


def test_without_a_preset_the_weights_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(monkeypatch, capsys, "--accelerator", "rtx4090", "--dtype", "float32")
    assert [line for line in lines if line.startswith("peak")] == ["peak memory, load"]
    assert lines["peak memory, load"] == "32.1 GB of 24.0 GB on one rtx4090"


def test_a_measured_card_is_given_by_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(asdict(Accelerator("bench card", 1e12, 1e12, 40e9, source="test"))), encoding="utf-8")
    lines = told(monkeypatch, capsys, "--accelerator", path)
    assert lines["peak memory, load"] == "16.1 GB of 40.0 GB on one bench card"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("doctor", LLAMA, "--accelerator", "h10"), ("did you mean 'h100'", "where: --accelerator", "a '.json' that")),
        (("doctor", "--accelerator", "h100"), ("no model is given", "where: --accelerator")),
        (("doctor", LLAMA, "--accelerator", "no.json"), ("no such file", "where: no.json")),
        (("plan", EXAMPLES / "one_gpu.yaml", "--price", "rates.txt"), ("where: --price", "a '.json' that")),
        (("plan", EXAMPLES / "one_gpu.yaml", "--price", "no.json"), ("no such file", "where: no.json")),
        (("doctor", "--out", "rates.json"), ("where: --out", "sphere doctor --measure --out rates.json")),
        (
            ("doctor", LLAMA, "--measure", "--accelerator", "h100", "--dtype", "float32"),
            ("where: --measure", f"leave out {LLAMA}, --accelerator, or --measure"),
        ),
        (("doctor", "--measure", "--batch", 100), ("leave out --batch, or --measure",)),
    ],
)
def test_what_is_unknown_or_has_no_use_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    said: Sequence[str],
) -> None:
    assert sphere(monkeypatch, *arguments) == 2
    told = squeezed(capsys.readouterr().err)
    assert all(squeezed(part) in told for part in said)


def test_slow_rates_are_shown_with_two_digits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = Accelerator("slow", 123_456e9, 0.42e9, 24e9, eigen_share=0.01, source="test")
    monkeypatch.setattr("sphere_core.costs.measure.measure_device", lambda device, dtype: slow)
    assert sphere(monkeypatch, "doctor", "--measure") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for rate in ("123,456 GFLOP/s", "products in float64 0.42 GFLOP/s", "in float64 0.0042 GFLOP/s"):
        assert rate in shown
