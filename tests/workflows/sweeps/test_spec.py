"""The sweep file: what it accepts, and how clearly it refuses the rest."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from repository import EXAMPLES
from sweep_files import tiny, write_sweep

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.model_errors import _model_in
from sphere_core.foundation.yaml_files import read_yaml
from sphere_core.hyperparameters import preset
from sphere_core.methods import resolve_method
from workflows.sweeps.reading import read_sweep
from workflows.sweeps.spec import SweepSpec


def refusal(folder: Path, settings: dict[str, Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        read_sweep(write_sweep(folder, settings))
    return caught.value


def test_the_quickstart_reads() -> None:
    spec, _ = read_sweep(EXAMPLES / "quickstart.yaml")
    assert [method.title for method in spec.methods] == ["memit", "memit+sphere", "alphaedit", "alphaedit+sphere"]
    assert len(spec.wanted_checkpoints(spec.streams[0].edits)) >= 5
    assert set(spec.evaluators.settings()) == {"edit_quality", "general", "geometry"}
    assert len(spec.seeds) >= 2
    assert spec.streams[0].edits >= 500


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_every_example_reads_and_names_methods_that_exist(example: str) -> None:
    spec, _ = read_sweep(EXAMPLES / example)
    for entry in spec.methods:
        method = resolve_method(entry.name)
        preset(spec.models[0].preset, method.editor_name, method.regularizer_names, entry.hyperparameters)


def test_short_forms(tmp_path: Path) -> None:
    spec, _ = read_sweep(write_sweep(tmp_path, tiny(evaluators={"geometry": None})))
    assert spec.models[0].dtype == "float32"
    assert spec.models[0].preset == "factworld"
    assert spec.methods[1].name == "alphaedit+sphere"
    assert spec.evaluators.settings() == {"geometry": {}}


@pytest.mark.parametrize(
    ("changes", "key", "near"),
    [
        ({"methodz": ["memit"]}, "methodz", "methods"),
        ({"models": [{"source": "x", "dtpye": "float32", "preset": "factworld"}]}, "models[0].dtpye", "dtype"),
        ({"streams": [{"dataset": "factworld", "edit": 6}]}, "streams[0].edit", "edits"),
        ({"methods": ["memit", {"name": "memit", "hyperparams": {}}]}, "methods[1].hyperparams", "hyperparameters"),
        ({"moments": {"corpus": "factworld", "sentence": 6}}, "moments.sentence", "sentences"),
        ({"contexts": {"seed": ["The"]}}, "contexts.seed", "seeds"),
        ({"evaluators": {"edit_qualty": {}}}, "evaluators.edit_qualty", "edit_quality"),
        ({"resources": {"replica": {"num_cpu": 1}}}, "resources.replica.num_cpu", "num_cpus"),
    ],
)
def test_an_unknown_key_names_file_line_key_and_the_nearest_name(
    tmp_path: Path, changes: dict[str, Any], key: str, near: str
) -> None:
    error = refusal(tmp_path, tiny(**changes))
    assert f"'{key.rsplit('.', 1)[-1]}'" in error.what
    assert str(tmp_path / "sweep.yaml") in str(error.where)
    assert f"key {key}" in str(error.where)
    assert f"did you mean '{near}'?" in str(error.remedy)
    line = int(str(error.where).split("line ")[1].split(",")[0])
    text = (tmp_path / "sweep.yaml").read_text(encoding="utf-8").splitlines()[line - 1]
    assert key.rsplit(".", 1)[-1] in text


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"seeds": None}, "sweep.yaml", "'seeds' is missing"),
        ({"seeds": []}, "key seeds", "at least 1"),
        ({"batch_size": 0}, "key batch_size", "greater than or equal to 1"),
        ({"checkpoint_every": 5}, "sweep.yaml", "multiple of batch_size"),
        ({"methods": ["memit", "memit"]}, "key methods", "appears twice"),
        ({"models": ["factworld", "factworld"]}, "key models", "appears twice"),
        ({"seeds": [1, 1]}, "key seeds", "appears twice"),
        ({"models": ["gpt2"]}, "key models[0]", "write {source: gpt2"),
        ({"models": [{"source": "x", "dtype": "int8", "preset": "y"}]}, "key models[0].dtype", "float32"),
        ({"moments": {"file": "a.npz", "corpus": "factworld"}}, "key moments", "either"),
        ({"moments": {"corpus": "factworld"}}, "key moments", "needs `sentences`"),
        ({"name": "a/b"}, "key name", "pattern"),
    ],
)
def test_a_wrong_value_names_its_place(tmp_path: Path, changes: dict[str, Any], where: str, what: str) -> None:
    error = refusal(tmp_path, tiny(**changes))
    assert where in str(error.where)
    assert what in error.what


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: a\nresources:\n  threads: 1\n  threads: 2\n", encoding="utf-8")
    with pytest.raises(InputError, match="'threads' is given twice") as caught:
        read_sweep(path)
    assert "lines 3 and 4" in str(caught.value.where)


def test_bad_syntax_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: [a\nmodels: b: c\n", encoding="utf-8")
    with pytest.raises(InputError, match="not valid YAML") as caught:
        read_sweep(path)
    assert "line 2" in str(caught.value.where)
    path.write_text("- a\n", encoding="utf-8")
    with pytest.raises(InputError, match="keys and values"):
        read_sweep(path)
    with pytest.raises(InputError, match="not found"):
        read_sweep(tmp_path / "nowhere.yaml")


def test_yaml_never_builds_objects(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(path)


def test_checkpoints_are_multiples_of_the_cadence_and_the_last_batch(tmp_path: Path) -> None:
    spec, _ = read_sweep(write_sweep(tmp_path, tiny()))
    assert spec.wanted_checkpoints(6) == (4, 6)
    assert spec.wanted_checkpoints(8) == (4, 8)
    assert spec.wanted_checkpoints(3) == (3,)


def every_model(model: type[BaseModel]) -> set[type[BaseModel]]:
    inner = (_model_in(field.annotation) for field in model.model_fields.values())
    return {model}.union(*(every_model(found) for found in inner if found is not None))


def test_every_field_is_described() -> None:
    bare = [
        f"{model.__name__}.{name}"
        for model in every_model(SweepSpec)
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert bare == []


def test_a_misspelt_embedded_model_gets_its_name(tmp_path: Path) -> None:
    assert "did you mean 'factworld'" in refusal(tmp_path, tiny(models=["factwrld"])).what
    assert "did you mean" not in refusal(tmp_path, tiny(models=["gpt2-xl"])).what
