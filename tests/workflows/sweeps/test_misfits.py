"""Parts that do not belong together are refused by the plan, and those that do are not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from repository import REPOSITORY
from safetensors.torch import load_file, save_file
from sweep_files import tiny, write_sweep

from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError
from sphere_core.models.outline import describe_model
from workflows.sweeps.expand import load_sweep

TINY = REPOSITORY / "tests" / "data" / "tiny-llama"
FACT = {"prompt": "{} was born in", "subject": "Mira Solen", "target_new": "Quint"}


def facts(folder: Path, *ids: object) -> DatasetSpec:
    records = [FACT | ({} if name is None else {"case_id": name}) for name in ids]
    (folder / "facts.json").write_text(json.dumps(records))
    return DatasetSpec(dataset="facts", path=str(folder / "facts.json"))


@pytest.mark.parametrize("ids", [(4, 4), ("a", "b", "a"), (1, None), (None, None), ("1", "01")])
def test_records_are_read_whether_or_not_their_ids_are_unique(tmp_path: Path, ids: tuple[object, ...]) -> None:
    assert len(read_dataset(facts(tmp_path, *ids)).records) == len(ids)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("memit", {"nullspace_threshold": 0.1}),
        ("alphaedit", {"strength": 0.5}),
        ("memit+sphere", {"rect_keep": 0.4}),
        ("memit+rect", {"nse_alpha": 0.5}),
    ],
)
def test_a_hyperparameter_of_another_method_is_refused(tmp_path: Path, method: str, given: dict[str, Any]) -> None:
    path = write_sweep(tmp_path, tiny(methods=[{"name": method, "hyperparameters": given}]))
    with pytest.raises(InputError, match="is not a hyperparameter of") as caught:
        load_sweep(path)
    assert f"sphere methods {method}" in str(caught.value.remedy)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def renamed(model: Path, name_of: Any) -> None:
    path = model / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    save_file({name_of(place, name): tensor for place, (name, tensor) in enumerate(tensors.items())}, path)


def test_weights_of_another_family_are_refused(model: Path) -> None:
    renamed(model, lambda place, name: f"transformer.h.{place}")
    with pytest.raises(InputError, match="the files lack"):
        describe_model(model)


@pytest.mark.parametrize("longer", ["language_model.", "base."])
def test_weights_with_longer_names_are_those_of_a_larger_model(model: Path, longer: str) -> None:
    sites = describe_model(model).sites
    renamed(model, lambda place, name: longer + name)
    assert [site.layer for site in describe_model(model).sites] == [site.layer for site in sites]


def test_a_tokenizer_whose_tokens_the_model_does_not_have_is_refused(model: Path) -> None:
    said = json.loads((model / "tokenizer.json").read_text())
    highest = max(said["model"]["vocab"], key=said["model"]["vocab"].__getitem__)
    said["model"]["vocab"][highest] = 10**6
    (model / "tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="the tokenizer of another model"):
        describe_model(model)
