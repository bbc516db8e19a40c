"""`sphere doctor`: what it recognises, predicts and refuses, without loading a weight."""

import json
from pathlib import Path

import pytest
import torch
from command_line import sphere

from sphere_core.datasets.factworld.shipped import shipped_model_dir
from workflows.preflight.model import examine
from workflows.preflight.stages import stage_findings


def words(text: str) -> str:
    """One space between words, so that tables and wrapped lines read as one line."""
    return " ".join(text.split())


def test_the_embedded_model_is_recognised_and_its_stages_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "doctor", "factworld", "--preset", "factworld", "--dtype", "float32") == 0
    text = words(capsys.readouterr().out)
    for part in ("transformers", torch.__version__, "family ok llama", "0.6 million parameters, 4 layers"):
        assert part in text
    assert "d_out 64, d_in 512, stored [d_out, d_in]" in text
    assert "texts open with <bos>" in text
    for stage in ("load", "second moments", "targets", "write", "checkpoint", "score"):
        assert f"{stage} ok" in text


def test_a_model_that_is_not_here_is_missing_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "meta-llama/Meta-Llama-3-8B-Instruct"
    assert sphere(monkeypatch, "doctor", name, "--preset", "llama3-8b", "--edits", "15000") == 1
    text = words(capsys.readouterr().out)
    assert f"hf download {name}" in text
    assert "8.03 billion parameters, as published" in text
    assert "a checkpoint after 15000 edits ok 5.29 GB" in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "granitemoe", "num_local_experts": 8}, "expert"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quanti"),
    ],
)
def test_what_cannot_be_edited_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    changes: dict[str, object],
    reason: str,
) -> None:
    for path in shipped_model_dir().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    assert sphere(monkeypatch, "doctor", tmp_path) == 1
    assert reason in words(capsys.readouterr().out).lower()


@pytest.mark.parametrize(
    ("gigabytes", "targets", "solvers", "state"),
    [
        (80, "100 requests", "beside the layers on the accelerator", "ok"),
        (24, "10 requests", "1 of 5 layers on the accelerator, 4 on the host", "note"),
    ],
)
def test_doctor_says_what_an_accelerator_has_room_for(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, targets: str, solvers: str, state: str
) -> None:
    monkeypatch.setattr("workflows.preflight.stages.available_memory", lambda: (gigabytes * 1e9, 64e9))
    monkeypatch.setattr("workflows.preflight.stages.accelerator_memory", lambda: gigabytes * 1e9)
    examined = examine("meta-llama/Meta-Llama-3-8B-Instruct", revision=None)
    found = stage_findings(
        examined, method="alphaedit+sphere", preset_name="llama3-8b", dtype="bfloat16", batch=100, edits=3000
    )
    placed = {finding.what: finding for finding in found if finding.part == "placement"}
    assert placed["targets"].found.startswith(targets)
    assert placed["solvers"].found.startswith(solvers)
    assert placed["solvers"].state == state
    assert "missing" not in {finding.state for finding in found}


def test_the_cost_of_half_precision_is_measured_where_no_accelerator_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    assert sphere(monkeypatch, "doctor", "--json") == 0
    found = {item["what"]: item for item in json.loads(capsys.readouterr().out)["findings"]}
    assert torch.get_num_threads() == threads
    if torch.accelerator.is_available():
        assert "bfloat16" not in found
        return
    times = float(found["bfloat16"]["found"].split()[3])
    assert times > 0
    assert (found["bfloat16"]["state"] == "note") is (times >= 2.0)
    assert ("float32" in (found["bfloat16"]["remedy"] or "")) is (times >= 2.0)
