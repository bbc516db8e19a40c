"""The Python API's `edit` is `sphere edit`: from equal inputs, the same id and the same weights."""

import json
from pathlib import Path

import pytest
import torch
from command_line import sphere as command
from moments_files import factworld_moments
from neuron_parts import units, write_units
from plugin_parts import install_package
from safetensors.torch import load_file

import workflows.api as sphere
from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.runs.new_plugin import start_of

EDITS, BATCH = 4, 2


@pytest.fixture(scope="module")
def model() -> sphere.LoadedModel:
    return sphere.load_model(source="factworld", device="cpu")


@pytest.fixture(scope="module")
def method(model: sphere.LoadedModel) -> sphere.ChosenMethod:
    return sphere.load_method(name="memit", model=model)


@pytest.fixture(scope="module")
def moments_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factworld_moments(tmp_path_factory.mktemp("moments"))


def by_command(folder: Path, *options: object) -> tuple[str, dict[str, torch.Tensor]]:
    """Run `sphere edit` on the embedded model into a folder; return the trajectory's id and the last weights."""
    with pytest.MonkeyPatch.context() as patch:
        given = ("--model", "factworld", "--batch-size", BATCH, "--preset", "factworld", "--out", folder, *options)
        assert command(patch, "edit", *given) == 0
    spec = TrajectorySpec.model_validate_json((folder / "spec.json").read_text(encoding="utf-8"))
    last = max(path for path in folder.iterdir() if path.is_dir())
    return spec.id, load_file(last / "weights.safetensors")


def require_same(edited: sphere.EditedModel, expected: tuple[str, dict[str, torch.Tensor]]) -> None:
    trajectory_id, weights = expected
    assert edited.spec is not None
    assert edited.checkpoint is not None
    assert edited.spec.id == edited.checkpoint.trajectory_id == trajectory_id
    assert edited.checkpoint.weights.keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in edited.checkpoint.weights.items())


def facts_file(folder: Path) -> Path:
    path = folder / "facts.json"
    path.write_text(json.dumps(edit_records(shipped_world())[:EDITS]), encoding="utf-8")
    return path


@pytest.mark.parametrize("source", ["moments.safetensors", "store"])
def test_a_trajectory_is_that_of_the_command(
    model: sphere.LoadedModel, method: sphere.ChosenMethod, moments_file: Path, tmp_path: Path, source: str
) -> None:
    """From a file of second moments, and from the folder of a set in the store."""
    found = moments_file if source == moments_file.name else next((moments_file.parent / source).iterdir())
    facts = facts_file(tmp_path)
    expected = by_command(tmp_path / "out", "--method", "memit", "--requests", facts, "--moments", found)
    edited = sphere.edit(
        model=model,
        stream=sphere.load_stream(dataset="counterfact", path=str(facts), edits=EDITS, seed=0),
        method=method,
        batch_size=BATCH,
        moments=sphere.load_moments(source=found, model=model, method=method),
    )
    require_same(edited, expected)


def test_moments_that_were_built_are_named_as_those_of_the_store(
    model: sphere.LoadedModel, method: sphere.ChosenMethod, moments_file: Path
) -> None:
    store = moments_file.parent / "store"
    built = sphere.build_moments(model=model, method=method, corpus="factworld", sentences=300, store=str(store))
    loaded = sphere.load_moments(source=next(store.iterdir()), model=model, method=method)
    assert built.files is not None
    assert built.files == loaded.files


def test_a_file_of_neurons_is_held_against_the_stream_as_by_the_command(
    model: sphere.LoadedModel, tmp_path: Path
) -> None:
    facts, file = facts_file(tmp_path), tmp_path / "neurons.safetensors"
    width = model.network.config.hidden_size
    stream = sphere.load_stream(dataset="counterfact", path=str(facts), edits=EDITS, seed=0)
    cases = [request.case_id for request in stream.requests]
    write_units(file, units(EDITS, width=width), cases)
    options = ("--method", "neurons", "--requests", facts, "--set", f"neurons_file={file}")
    expected = by_command(tmp_path / "out", *options)

    def edit() -> sphere.EditedModel:
        chosen = sphere.load_method(name="neurons", model=model, hyperparameters={"neurons_file": str(file)})
        return sphere.edit(model=model, stream=stream, method=chosen, batch_size=BATCH)

    require_same(edit(), expected)
    write_units(file, units(1, width=width), cases[:1])
    with pytest.raises(sphere.InputError, match="no unit for 3 of the requests"):
        edit()


def test_the_code_of_a_packages_reader_is_part_of_the_id_as_in_the_command(
    model: sphere.LoadedModel,
    method: sphere.ChosenMethod,
    moments_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_package(tmp_path / "site", "quiz_reader", start_of("dataset", "quiz"), {"sphere.datasets": "quiz"})
    monkeypatch.syspath_prepend(tmp_path / "site")
    records = tmp_path / "records.json"
    told = {"question": "Mira Solen plays the", "subject": "Mira Solen", "answer": "harp"}
    records.write_text(json.dumps([told]), encoding="utf-8")
    options = ("--method", "memit", "--requests", records, "--dataset", "quiz", "--moments", moments_file)
    expected = by_command(tmp_path / "out", *options)
    edited = sphere.edit(
        model=model,
        stream=sphere.load_stream(dataset="quiz", path=str(records), edits=1, seed=0),
        method=method,
        batch_size=BATCH,
        moments=sphere.load_moments(source=moments_file, model=model, method=method),
    )
    require_same(edited, expected)
    assert edited.spec is not None
    assert set(edited.spec.plugins) == {"dataset/quiz"}
