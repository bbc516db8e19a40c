"""Files of neurons: what is refused, and where, before anything is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import sphere
from neuron_parts import CASES, PROMPTS, units, write_units
from sweep_files import tiny, write_sweep

from sphere_core.editors.memory.companion_folders import with_companions
from sphere_core.editors.memory.neuron_file import require_cases, require_place
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method


def without(name: str) -> dict[str, torch.Tensor]:
    return {other: tensor for other, tensor in units(5).items() if other != name}


def with_nan() -> dict[str, torch.Tensor]:
    drawn = units(5)
    drawn["gates"][3, 7] = torch.nan
    return drawn


FAULTS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no keys": (lambda: {"tensors": without("keys")}, "no tensor 'keys'"),
    "a stranger": (lambda: {"tensors": {**units(5), "scales": torch.ones(5)}}, "unknown tensor 'scales'"),
    "shapes": (lambda: {"tensors": {**units(5), "values": torch.ones(5, 31)}}, r"'values' has the shape \[5, 31\]"),
    "one vector": (lambda: {"tensors": {**units(5), "keys": torch.ones(5)}}, r"must be \[units, width\]"),
    "half": (lambda: {"tensors": {**units(5), "keys": torch.ones(5, 32).half()}}, "stored as F16"),
    "nan": (lambda: {"tensors": with_nan()}, "not finite: those of unit 3, case 3"),
    "counts": (lambda: {"cases": CASES[:4]}, r"make it \[4"),
    "nothing": (lambda: {"cases": []}, "the file holds no unit"),
    "no prompts": (lambda: {"scope": "prompts"}, "requires 'prompts'"),
    "prompts": (lambda: {"prompts": json.dumps(PROMPTS)}, "has no 'prompts'"),
    "few prompts": (lambda: {"scope": "prompts", "prompts": '["a"]'}, "'prompts' has 1 entries"),
    "no json": (lambda: {"scope": "prompts", "prompts": "a, b"}, "'prompts' is not JSON"),
    "function": (lambda: {"activation": "sylu"}, "did you mean 'silu'"),
    "layer": (lambda: {"layer": "first"}, "layer"),
    "key": (lambda: {"threshold": "0.5"}, "unknown key 'threshold'"),
    "format": (lambda: {"format": "2"}, "format"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_faulty_file_is_refused_with_its_place(fault: str, tmp_path: Path) -> None:
    make, message = FAULTS[fault]
    given = {"tensors": units(5), "cases": CASES, **make()}
    path = write_units(tmp_path / "n.safetensors", given.pop("tensors"), given.pop("cases"), **given)
    values = build_hyperparameters({"layers": [1], "neurons_file": path.name}, where="test")
    with pytest.raises(InputError, match=message) as refused:
        with_companions(values, tmp_path)
    assert str(path) in str(refused.value)


def test_a_file_is_known_by_its_content_and_held_against_model_and_stream(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neurons_file"):
        resolve_method("neurons").check(build_hyperparameters({"layers": [1]}, where="test"), where="test")
    path = write_units(tmp_path / "n.safetensors", units(5), CASES)
    values = build_hyperparameters({"layers": [1], "neurons_file": path.name}, where="test")
    found = with_companions(values, tmp_path)
    assert found.neurons_file == str(path)
    assert "neurons_file" not in found.identity()
    require_place(path, layers=2, width=32)
    require_cases(path, CASES[1:])
    for place in ({"layers": 1, "width": 32}, {"layers": 2, "width": 64}):
        with pytest.raises(InputError, match=r"layer 1, the model has|32 wide, the model 64"):
            require_place(path, **place)
    with pytest.raises(InputError, match=r"for 4 of the requests: case 5, 6, 7 and 1 more"):
        require_cases(path, ["0", "5", "6", "7", "8"])
    write_units(path, units(5, scale=2.0), CASES)
    with pytest.raises(InputError, match="another content"):
        resolve_method("neurons").build(found, None)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="neuron file cannot be read"):
        with_companions(values, tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="not found"):
        with_companions(values, tmp_path)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "neurons", "hyperparameters": {"neurons_file": "n.safetensors"}}, "32 wide, the model 64"),
        (
            {"name": "neurons", "hyperparameters": {"neurons_file": "w.safetensors"}},
            "has no unit for 6 of the requests",
        ),
        ({"name": "neurons"}, "neurons_file"),
        ("meg", "trains its generator on all facts at once"),
        ("hype", "not specified in public"),
    ],
)
def test_a_sweep_is_refused_before_anything_is_written(
    method: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_units(tmp_path / "n.safetensors", units(5), CASES)
    write_units(tmp_path / "w.safetensors", units(1, width=64), ["1"])
    settings = tiny(methods=[method], seeds=[0], moments=None, evaluators={"edit_quality": {}})
    sweep, root = write_sweep(tmp_path, settings), tmp_path / "root"
    assert sphere(monkeypatch, "run", sweep, "--local", "--root", root) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not root.exists()
