"""Calibration: it finds better hyperparameters than it began with, and writes a preset that a sweep can use."""

from pathlib import Path

import pytest
import yaml
from command_line import sphere
from sweep_files import tiny, write_sweep

from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import preset
from workflows.runs.calibration_search import candidate_layers
from workflows.sweeps.expand import load_sweep


def test_candidate_spans_hold_the_published_layers() -> None:
    for layers, published in ((32, {4, 5, 6, 7, 8}), (28, {3, 4, 5, 6, 7, 8}), (48, {13, 14, 15, 16, 17})):
        spans = candidate_layers(layers)
        assert max(len(published & set(span)) for span in spans) >= 4
        assert all(span[-1] < layers for span in spans)
    assert candidate_layers(1) == [(0,)]


def test_a_preset_with_its_evidence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    moments, out = tmp_path / "moments.safetensors", tmp_path / "own.yaml"
    corpus = ("--corpus", "factworld", "--sentences", "600", "--store", tmp_path / "store")
    assert sphere(monkeypatch, "moments", "build", "factworld", "--layers", "0,1,2", *corpus, "--out", moments) == 0
    command = ("calibrate", "factworld", "factworld", "--requests", "8", "--moments", moments, "--out", out)
    assert sphere(monkeypatch, *command, "--trials", "6", "--set", "v_num_grad_steps=5") == 0
    assert "held out" in capsys.readouterr().out
    assert yaml.safe_load(out.read_text(encoding="utf-8"))["shared"]["v_num_grad_steps"]["value"] == 5
    for override, expected in (("v_lr=0.1", "what the calibration searches"), ("v_weight_decya=1", "v_weight_decay")):
        assert sphere(monkeypatch, *command, "--set", override) == 2
        assert expected in capsys.readouterr().err
    trials = yaml.safe_load(out.read_text(encoding="utf-8"))["evidence"]["trials"]
    decided = [trial for trial in trials if trial["held_out"]]
    assert len(trials) == 6 + len(decided) == 8
    assert max(trial["score"] for trial in trials if not trial["held_out"]) > trials[0]["score"]
    best = max(decided, key=lambda trial: (trial["score"], -abs(trial["he_drift"])))
    values = preset(str(out), "memit", ("sphere",))
    assert (list(values.layers), values.mom2_update_weight) == (best["layers"], best["ridge"])
    model = {"source": "factworld", "dtype": "float32", "preset": out.name}
    sweep = load_sweep(write_sweep(tmp_path, tiny(models=[model], methods=["memit", "memit+sphere"])))
    assert {spec.hyperparameters.layers for spec in sweep.specs.values()} == {values.layers}


def test_a_preset_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("layers: [1]", encoding="utf-8")
    with pytest.raises(InputError, match="sections sources, shared, editors"):
        preset(str(tmp_path / "bad.yaml"), "memit", ())
    with pytest.raises(InputError, match="not found"):
        preset(str(tmp_path / "nowhere.yaml"), "memit", ())
