"""The Python API: light to import, keyword-only, and with the numbers of the commands."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from moments_files import factworld_moments
from repository import REPOSITORY
from safetensors.torch import load_file
from sweep_files import tiny, write_sweep

import workflows.api as sphere
from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world

EDITS, BATCH = 4, 2


@pytest.fixture(scope="module")
def model() -> sphere.LoadedModel:
    return sphere.load_model(source="factworld", device="cpu")


@pytest.fixture(scope="module")
def method(model: sphere.LoadedModel) -> sphere.ChosenMethod:
    return sphere.load_method(name="memit", model=model)


@pytest.fixture(scope="module")
def stream() -> sphere.LoadedStream:
    return sphere.load_stream(dataset="factworld", edits=EDITS, seed=0)


@pytest.fixture(scope="module")
def moments_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factworld_moments(tmp_path_factory.mktemp("moments"))


def functions() -> dict[str, object]:
    return {name: getattr(sphere, name) for name in sphere.__all__ if inspect.isfunction(getattr(sphere, name))}


def test_every_argument_is_keyword_only_and_every_function_documented() -> None:
    assert {"load_model", "edit", "score", "open_sweep", "run_sweep_file", "calibrate_preset"} <= functions().keys()
    for name, function in functions().items():
        kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}  # type: ignore[arg-type]
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}, name
        assert function.__doc__, name


def test_names_for_type_checkers_are_those_that_are_found() -> None:
    tree = ast.parse((REPOSITORY / "workflows" / "api.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed.keys() | {"InputError"} == set(sphere.__all__)
    for name, module in typed.items():
        assert getattr(sphere, name) is getattr(sys.modules[module], name)
    with pytest.raises(AttributeError, match="no attribute 'lode_model'"):
        sphere.lode_model  # type: ignore[attr-defined] # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "ray", "lm_eval", "datasets", "pandas", "pyarrow", "duckdb")
    code = f"import sys, workflows.api; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_trajectory_has_the_bits_of_a_sweep(
    model: sphere.LoadedModel,
    method: sphere.ChosenMethod,
    stream: sphere.LoadedStream,
    moments_file: Path,
    tmp_path: Path,
) -> None:
    settings = tiny(
        streams=[{"dataset": "factworld", "edits": EDITS}],
        methods=["memit"],
        seeds=[0],
        checkpoint_every=EDITS,
        moments={"file": str(moments_file)},
        contexts=None,
        evaluators={"edit_quality": {}},
    )
    ended = sphere.run_sweep_file(sweep=write_sweep(tmp_path, settings), root=str(tmp_path / "root"), local=True)
    assert ended.exit_code == 0
    (planned,) = ended.directory.plan.trajectories
    in_sweep = load_file(
        tmp_path / "root" / "trajectories" / planned.id / "checkpoints" / f"{EDITS:06d}" / "weights.safetensors"
    )
    moments = sphere.load_moments(source=moments_file, model=model, method=method)
    seen: list[int] = []
    edited = sphere.edit(
        model=model,
        stream=stream,
        method=method,
        batch_size=BATCH,
        moments=moments,
        on_checkpoint=lambda checkpoint: seen.append(checkpoint.edits),
    )
    assert seen == [2, 4]
    assert edited.spec is not None
    assert edited.checkpoint is not None
    assert edited.spec.id == edited.checkpoint.trajectory_id == planned.id
    assert edited.checkpoint.weights.keys() == in_sweep.keys()
    assert all(torch.equal(weight, in_sweep[name]) for name, weight in edited.checkpoint.weights.items())

    scores = sphere.score(edited=edited, evaluators={"edit_quality": {}}).to_pylist()
    rows = [row for row in ended.directory.rows().to_pylist() if row["edits"] == EDITS]
    key = ("metric", "protocol", "site", "task", "value", "n", "status", "weights_digest")
    assert [[row[name] for name in key] for row in scores] == [[row[name] for name in key] for row in rows]


def test_scores_of_the_unedited_model_restore_it(
    model: sphere.LoadedModel, method: sphere.ChosenMethod, stream: sphere.LoadedStream, moments_file: Path
) -> None:
    sites = model.editable.open_sites(method.hyperparameters.layers)
    moments = sphere.load_moments(source=moments_file, model=model, method=method)
    edited = sphere.edit(model=model, stream=stream, method=method, batch_size=EDITS, moments=moments)
    changed = model.editable.weights_digest()
    quality = {"edit_quality": {"agreement": False}}
    before = sphere.score(edited=sphere.unedited(model=model, stream=stream), evaluators=quality).to_pandas()
    assert sites
    assert model.editable.weights_digest() != changed
    assert set(before.weights_digest) == {model.editable.weights_digest()}
    model.editable.load_weights(edited.checkpoint.weights)  # type: ignore[union-attr]
    after = sphere.score(edited=edited, evaluators=quality).to_pandas()
    assert set(after.weights_digest) == {changed}
    assert _efficacy(before) < _efficacy(after)


def _efficacy(scores: object) -> float:
    return float(scores.query("metric == 'efficacy' and protocol == 'argmax'").value.item())  # type: ignore[attr-defined]


def test_moments_are_built_once(
    model: sphere.LoadedModel,
    method: sphere.ChosenMethod,
    moments_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"model": model, "method": method, "corpus": "factworld", "sentences": 300, "store": str(tmp_path)}
    built = sphere.build_moments(**options)
    from_command = sphere.load_moments(source=moments_file, model=model, method=method)
    assert all(torch.equal(built.by_layer[layer], from_command.by_layer[layer]) for layer in (0, 1))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(times) == 2
    again = sphere.build_moments(**options)
    assert again.digest == built.digest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == times


def test_an_edited_model_is_exported(
    model: sphere.LoadedModel, stream: sphere.LoadedStream, moments_file: Path, tmp_path: Path
) -> None:
    method = sphere.load_method(name="memit+sphere", model=model, hyperparameters={"strength": 0.25})
    assert method.hyperparameters.strength == 0.25
    moments = sphere.load_moments(source=moments_file, model=model, method=method)
    edited = sphere.edit(model=model, stream=stream, method=method, batch_size=EDITS, moments=moments)
    sphere.export_checkpoint(checkpoint=edited, to=tmp_path / "model")
    again = sphere.load_model(source=str(tmp_path / "model"), dtype="float32", device="cpu")
    for name, parameter in model.network.named_parameters():
        assert torch.equal(parameter, dict(again.network.named_parameters())[name])
    assert "memit+sphere" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(sphere.InputError, match="exists already"):
        sphere.export_checkpoint(checkpoint=edited, to=tmp_path / "model")
    with pytest.raises(sphere.InputError, match="unedited"):
        sphere.export_checkpoint(checkpoint=sphere.unedited(model=model, stream=stream), to=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_sweep_directory_as_arrow(sweep_file: Path, tmp_path: Path) -> None:
    ended = sphere.run_sweep_file(sweep=sweep_file, root=str(tmp_path), local=True)
    opened = sphere.open_sweep(root=ended.root)
    status = opened.status()
    assert status.column("state").to_pylist() == ["done", "done"]
    assert sorted(opened.table().column("method").to_pylist()) == ["(unedited)", "memit", "memit+rect"]
    by_edits = opened.table(by="edits")
    assert set(by_edits.column("edits").to_pylist()) == {0, 4, 6}
    assert opened.rows().num_rows > 0
    with pytest.raises(sphere.InputError, match="no scored probes"):
        opened.retention(table="curve", role="rewrite", protocol="correct", measure="argmax")
    with pytest.raises(sphere.InputError, match="unknown retention table 'curves'"):
        opened.retention(table="curves", role="rewrite", protocol="correct", measure="argmax")
    assert sphere.plan_sweep(sweep=sweep_file) == opened.plan


def test_faults_are_input_errors_with_the_nearest_name(
    model: sphere.LoadedModel, method: sphere.ChosenMethod, stream: sphere.LoadedStream, tmp_path: Path
) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps(edit_records(shipped_world())[:3]), encoding="utf-8")
    unedited = sphere.load_method(name="unedited", model=model)
    faults = {
        "a model needs a dtype": lambda: sphere.load_model(source=str(tmp_path)),
        "unknown key 'ordre'": lambda: sphere.load_stream(dataset="factworld", edits=2, seed=0, ordre="shuffled"),
        "the data set has 3": lambda: sphere.load_stream(dataset="counterfact", path=str(facts), edits=4, seed=0),
        "unknown method 'memitt'": lambda: sphere.load_method(name="memitt", model=model),
        "'strenght'": lambda: sphere.load_method(name="memit+sphere", model=model, hyperparameters={"strenght": 0.5}),
        "needs second moments": lambda: sphere.edit(model=model, stream=stream, method=method, batch_size=2),
        "list of non-empty groups": lambda: sphere.edit(
            model=model, stream=stream, method=unedited, batch_size=2, contexts=()
        ),
        "batch_size is 0": lambda: sphere.edit(model=model, stream=stream, method=method, batch_size=0),
        "unknown evaluator kind 'edit_qualty'": lambda: sphere.score(
            edited=sphere.unedited(model=model, stream=stream), evaluators={"edit_qualty": {}}
        ),
        "layer 7 is out of range": lambda: sphere.load_method(
            name="memit", model=model, hyperparameters={"layers": (7,)}
        ),
        "no sweep": lambda: sphere.open_sweep(root=str(tmp_path)),
    }
    for what, call in faults.items():
        with pytest.raises(sphere.InputError) as caught:
            call()
        assert what in str(caught.value), str(caught.value)
