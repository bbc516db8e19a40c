"""A memory editor from sweep to export: rows, a repeated end that is byte-equal, a folder that answers the same."""

import shutil
from pathlib import Path

import pytest
import torch
from command_line import sphere, squeezed
from neuron_parts import units, write_units
from serac_parts import encoder_folder
from sweep_files import results_of, tiny, write_sweep
from transformers import AutoModelForCausalLM

import workflows.api as api
from sphere_core.checkpoints import read_checkpoint
from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.export import load_exported
from sphere_core.foundation.storage import Storage
from sphere_core.models import load_model

# Short trainings: what is looked at is what is stored.
SHORT = {"num_steps": 2}
METHODS = [
    "neuraldb",
    "retrieve",
    {"name": "grace", "hyperparameters": SHORT},
    *({"name": name, "hyperparameters": {**SHORT, "memory_background": 2}} for name in ("memoir", "wise")),
]


def brought(folder: Path) -> list[dict[str, object]]:
    """Methods that bring something along, with it: SERAC's two models, and units made elsewhere."""
    cases = [
        request.case_id for request in api.load_stream(dataset="factworld", edits=4, order="shuffled", seed=0).requests
    ]
    units_of = write_units(folder / "units.safetensors", units(len(cases), width=64), cases)
    models = {
        "serac_classifier": str(encoder_folder(folder / "encoder")),
        "serac_counterfactual": str(shipped_model_dir()),
    }
    return [
        {"name": "serac", "hyperparameters": models},
        {"name": "neurons", "hyperparameters": {"neurons_file": str(units_of)}},
    ]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep file; its root lies beside it and has been run: checkpoints after 2 and 4 edits of each method."""
    folder = tmp_path_factory.mktemp("attached")
    streams = [{"dataset": "factworld", "edits": 4, "order": "shuffled"}]
    general = {"tasks": ["factworld"], "limit": 4}
    settings = tiny(
        methods=[*METHODS, *brought(folder)],
        seeds=[0],
        streams=streams,
        checkpoint_every=2,
        moments=None,
        evaluators={"edit_quality": {}, "geometry": {}, "general": general},
    )
    path = write_sweep(folder, settings)
    with pytest.MonkeyPatch.context() as patch:
        assert sphere(patch, "run", path, "--local", "--root", folder / "root") == 0
    return path


def scored(root: Path) -> dict[str, bytes]:
    # Documents of kept results have equal rows, and other bytes where a null's place is undefined.
    return {name: data for name, data in results_of(root).items() if not name.startswith("details/documents/")}


def checkpoints(root: Path) -> list[Path]:
    return sorted(root.glob("trajectories/*/checkpoints"))


def test_what_was_lost_is_made_again_byte_for_byte(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    shutil.copytree(sweep.parent / "root", root)
    whole = scored(root)
    for folder in checkpoints(root):
        shutil.rmtree(folder / "000004")
    for path in [*root.glob("rows/*/*-000004-*"), *root.glob("details/**/*-000004-*")]:
        path.unlink()
    assert scored(root) != whole
    assert sphere(monkeypatch, "run", sweep, "--local", "--root", root) == 0
    assert scored(root) == whole


def test_the_exported_folder_answers_as_the_checkpoint_and_plain_transformers_refuses_it(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = torch.tensor([[5, 9, 20, 33]])
    for number, folder in enumerate(checkpoints(sweep.parent / "root")):
        to = tmp_path / str(number)
        assert sphere(monkeypatch, "export", folder / "000004", "--to", to / "model") == 0
        assert squeezed("plain transformers cannot represent it") in squeezed(capsys.readouterr().out)
        with pytest.raises((OSError, ValueError)):
            AutoModelForCausalLM.from_pretrained(to / "model")
        checkpoint = read_checkpoint(Storage(folder), 4)
        assert checkpoint.attachment is not None
        assert not checkpoint.weights
        model, exported = load_model("factworld", dtype="float32", device="cpu"), load_exported(to / "model")
        model.load_weights(checkpoint.weights, checkpoint.attachment)
        assert exported.weights_digest() == model.weights_digest()
        answers = []
        for each in (exported, model):
            with torch.no_grad(), each.reading(ends=torch.tensor([3])):
                answers.append(each.network(ids).logits)
        assert torch.equal(*answers)
        row = tuple(ids[0].tolist())
        assert exported.rewritten(row, 4) == model.rewritten(row, 4)
        assert "load_exported" in (to / "model" / "README.md").read_text()
        assert sphere(monkeypatch, "export", folder / "000004", "--to", to / "delta", "--delta-only") == 0
        assert sphere(monkeypatch, "apply", to / "delta", "--model", "factworld", "--to", to / "again") == 0
        mine = {path.relative_to(to / "again"): path.read_bytes() for path in (to / "again").rglob("*.*")}
        assert mine == {path.relative_to(to / "model"): path.read_bytes() for path in (to / "model").rglob("*.*")}
