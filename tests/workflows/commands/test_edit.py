"""`sphere edit`: checkpoints per batch, resumption, and refusal of wrong input."""

import json
from pathlib import Path

import golden
import pytest
from command_line import sphere, squeezed
from safetensors.torch import load_file

from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_model_dir, shipped_world


@pytest.fixture(scope="module")
def edit_inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("edit")
    (folder / "facts.json").write_text(json.dumps(edit_records(shipped_world())[:6]), encoding="utf-8")
    (folder / "contexts.json").write_text('[["{}"], ["The. {}"]]', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        moments = folder / "moments.safetensors"
        built = ("moments", "build", "factworld", "--layers", "0,1", "--corpus", "factworld", "--sentences", 600)
        assert sphere(patch, *built, "--store", folder / "store", "--out", moments) == 0
    return {"requests": folder / "facts.json", "contexts": folder / "contexts.json", "moments": moments}


def edit_arguments(inputs: dict[str, Path], out: Path, **changes: object) -> list[object]:
    options = {"model": "factworld", "method": "memit", "preset": "factworld", **inputs, "out": out}
    given = {**options, "batch-size": 2, **changes}
    return ["edit", *(part for key, value in given.items() for part in (f"--{key}", value))]


def test_edit_keeps_a_checkpoint_a_batch_under_the_models_own_names(
    edit_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sphere(monkeypatch, *edit_arguments(edit_inputs, tmp_path / "out")) == 0
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["000002", "000004", "000006"]
    original = load_file(next(shipped_model_dir().glob("*.safetensors")))
    weights = load_file(tmp_path / "out" / "000006" / "weights.safetensors")
    assert sorted(weights) == [f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)]
    for name, weight in weights.items():
        assert weight.shape == original[name].shape
        assert not weight.equal(original[name].float())


def test_edit_takes_own_facts_from_a_csv_file(
    edit_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "facts.csv"
    facts.write_text("prompt,subject,target_new\nDunen Babusk likes to eat,Dunen Babusk,goulash\n", encoding="utf-8")
    arguments = edit_arguments({**edit_inputs, "requests": facts}, tmp_path / "out", dataset="facts")
    assert sphere(monkeypatch, *arguments) == 0
    assert (tmp_path / "out" / "000001" / "weights.safetensors").is_file()


def test_edit_resumes_from_the_last_checkpoint_to_the_same_bytes(
    edit_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = edit_arguments(edit_inputs, tmp_path / "out", method="alphaedit+sphere")
    assert sphere(monkeypatch, *arguments) == 0
    whole = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for name in ("000004", "000006"):
        (tmp_path / "out" / name / "manifest.json").unlink()
    assert sphere(monkeypatch, *arguments) == 0
    assert "resuming from the checkpoint after 2 edits" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == whole
    other = edit_arguments(edit_inputs, tmp_path / "out", method="memit")
    assert sphere(monkeypatch, *other) == 2
    assert "another trajectory" in capsys.readouterr().err


def test_edit_takes_hyperparameters_from_the_command_line(
    edit_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hparams = tmp_path / "hparams.json"
    hparams.write_text(json.dumps(golden.released_hyperparameters("memit")), encoding="utf-8")
    sources = {"preset": {}, "hparams": {"preset": None, "hparams": hparams}}
    for name, source in sources.items():
        changed = {key: value for key, value in {**edit_inputs, **source, "batch-size": 6}.items() if value is not None}
        arguments = edit_arguments({}, tmp_path / name, **{"set": "v_num_grad_steps=2", **changed})
        if name == "hparams":
            place = arguments.index("--preset")
            del arguments[place : place + 2]
        assert sphere(monkeypatch, *arguments) == 0
        spec = json.loads((tmp_path / name / "spec.json").read_text(encoding="utf-8"))
        assert spec["hyperparameters"]["v_num_grad_steps"] == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "mend"}, "unknown method 'mend'"),
        ({"model": "./nowhere"}, "nowhere"),
        ({"requests": "no.json"}, "requests file not found"),
        ({"dataset": "counterfacts"}, "unknown data set 'counterfacts'"),
        ({"dataset": "zsre"}, "facts.json, record 0 (case 0)"),
        ({"moments": "no.npz"}, "moments file not found"),
        ({"contexts": "no.json"}, "contexts file not found"),
        ({"preset": "llama3-8b"}, "layer 4 is out of range"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"set": "v_num_grad_stesp=2"}, "did you mean 'v_num_grad_steps'?"),
        ({"hparams": "x.json"}, "either --hparams FILE or --preset NAME"),
    ],
)
def test_edit_refuses_wrong_input_and_writes_nothing(
    edit_inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sphere(monkeypatch, *edit_arguments(edit_inputs, tmp_path / "out", **changes)) == 2
    assert squeezed(expected) in squeezed(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
