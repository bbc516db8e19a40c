"""`grid:` in entries of a sweep file, and `--set`: what they give, the places that errors name, what a plan records."""

from pathlib import Path
from typing import Any

import pytest
from sweep_files import tiny, write_sweep

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.sql.connect import connect, stream_name
from workflows.runs.sweep_file import plan_sweep
from workflows.store.root_owner import require_own_root
from workflows.sweeps.expand import load_sweep
from workflows.sweeps.overrides import set_hyperparameters
from workflows.sweeps.publish import publish
from workflows.sweeps.reading import read_sweep

STRENGTHS = {"strength": [0.25, 0.5], "energy_ratio": [0.3, 0.5]}
SPHERE = {"name": "alphaedit+sphere", "grid": {"hyperparameters": STRENGTHS}}


def refused(folder: Path, *, overrides: tuple[str, ...] = (), **changes: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        load_sweep(write_sweep(folder, tiny(**changes)), overrides)
    return caught.value


def test_a_grid_is_the_entries_written_out(tmp_path: Path) -> None:
    written_out = [
        {
            "name": "alphaedit+sphere",
            "label": f"alphaedit+sphere strength={strength} energy_ratio={ratio}",
            "hyperparameters": {"strength": strength, "energy_ratio": ratio},
        }
        for strength in (0.25, 0.5)
        for ratio in (0.3, 0.5)
    ]
    short = load_sweep(write_sweep(tmp_path / "short", tiny(methods=["memit", SPHERE])))
    long = load_sweep(write_sweep(tmp_path / "long", tiny(methods=["memit", *written_out])))
    assert short.spec.methods == long.spec.methods
    assert short.specs == long.specs
    axes = [one.axes for one in short.plan.trajectories if one.seed == 0]
    assert axes[0] == {}
    assert axes[2] == {"strength": 0.25, "energy_ratio": 0.5}


def test_entries_of_streams_and_models_have_grids_too(tmp_path: Path) -> None:
    stream = {"dataset": "factworld", "grid": {"edits": [4, 6], "order": ["canonical", {"clustered": "relation"}]}}
    conflicts = {"dataset": "factworld", "edits": 6, "label": "f", "grid": {"conflicts": {"share": [0.2, 0.3]}}}
    conflicts["conflicts"] = {"distance": 2}
    model = {"source": "factworld", "preset": "factworld", "grid": {"dtype": ["float32", "bfloat16"]}}
    path = write_sweep(tmp_path, tiny(models=[model], streams=[stream, conflicts], methods=["memit"], seeds=[0]))
    spec, _ = read_sweep(path)
    assert [one.label for one in spec.models] == ["factworld dtype=float32", "factworld dtype=bfloat16"]
    shown = [(one.name, one.edits, one.order_name) for one in spec.streams]
    assert shown[:2] == [("factworld", 4, "canonical"), ("factworld", 4, "clustered:relation")]
    assert shown[4:] == [("f", 6, "canonical+conflicts:0.2@2"), ("f", 6, "canonical+conflicts:0.3@2")]
    axes = load_sweep(path).plan.trajectories[-1].axes
    assert axes == {"share": 0.3, "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("label", "first"),
    [
        ("s{strength}", "s0.25 energy_ratio=0.3"),
        ("{strength}/{energy_ratio}", "0.25/0.3"),
        ("mine", "mine strength=0.25 energy_ratio=0.3"),
    ],
)
def test_a_label_holds_axes_or_has_them_behind_it(tmp_path: Path, label: str, first: str) -> None:
    spec, _ = read_sweep(write_sweep(tmp_path, tiny(methods=[{**SPHERE, "label": label}])))
    assert spec.methods[0].title == first


@pytest.mark.parametrize(
    ("grid", "what", "key"),
    [
        ({}, "has no axis", "methods[1].grid"),
        ([0.5], "has no axis", "methods[1].grid"),
        (
            {"hyperparameters": {"strength": 0.5}},
            "'hyperparameters.strength' has no list",
            "methods[1].grid.hyperparameters",
        ),
        ({"hyperparameters": {"strength": []}}, "has no list of values", "methods[1].grid.hyperparameters.strength"),
        ({"label": ["a", "b"]}, "names the entry", "methods[1].grid.label"),
        ({"hyperparameters": {"L2": [1, 2]}}, "in the entry and in its grid", "methods[1].grid.hyperparameters.L2"),
        ({"hyperparameters": {"strength": [0.5, 0.5]}}, "appears twice", "methods"),
        ({"hyperparamters": {"strength": [0.5]}}, "unknown key 'hyperparamters'", "methods[1].grid.hyperparamters"),
        ({"hyperparameters": {"strenght": [0.5]}}, "unknown hyperparameter 'strenght'", "methods[1] (strenght=0.5)"),
        ({"hyperparameters": {"strength": [0.5, True]}}, "strength", "methods[1] (strength=true)"),
        ({"hyperparameters": {"strength": list(range(200)), "L2": list(range(200))}}, "in the entry", "methods[1]"),
        ({"hyperparameters": {"strength": [*range(200)], "lam": [*range(200)]}}, "40,000 combinations", "methods[1]"),
    ],
)
def test_a_faulty_grid_names_its_place_in_the_file(tmp_path: Path, grid: Any, what: str, key: str) -> None:
    entry = {"name": "alphaedit+sphere", "hyperparameters": {"L2": 1}, "grid": grid}
    error = refused(tmp_path, methods=[{**SPHERE, "label": "first"}, entry])
    assert what in error.what
    assert f"key {key}" in str(error.where)


def test_the_remedy_names_grid_among_the_keys_of_an_entry(tmp_path: Path) -> None:
    error = refused(tmp_path, methods=[{"name": "memit", "gird": {"hyperparameters": {"v_lr": [0.1]}}}])
    assert "did you mean 'grid'?" in str(error.remedy)


def test_axes_are_typed_columns_of_the_trajectories(tmp_path: Path) -> None:
    layers = {"name": "memit", "grid": {"hyperparameters": {"layers": [[0], [0, 1]], "v_num_grad_steps": [2, 3]}}}
    sweep = load_sweep(write_sweep(tmp_path, tiny(methods=[SPHERE, layers], seeds=[0])))
    storage = Storage(tmp_path / "root")
    publish(sweep, storage)
    with connect(storage, sweep.plan, views=("trajectories",)) as connection:
        found = connection.sql(
            "SELECT axis_strength, axis_v_num_grad_steps, axis_layers, hp_strength FROM trajectories"
        )
        assert [str(kind) for kind in found.types] == ["DOUBLE", "BIGINT", "VARCHAR", "DOUBLE"]
        rows = found.fetchall()
    assert rows[0][:3] == (0.25, None, None)
    assert rows[-1] == (None, 3, "[0, 1]", None)
    assert all(row[0] == row[3] for row in rows[:4])


def test_batches_and_moments_of_a_method_are_axes_too(tmp_path: Path) -> None:
    grid = {"batch_size": [1, 4], "moments": {"sentences": [100, 300]}}
    path = write_sweep(tmp_path / "grid", tiny(methods=["memit", {"name": "memit", "label": "m", "grid": grid}]))
    sweep, plain = load_sweep(path), load_sweep(write_sweep(tmp_path / "plain", tiny(methods=["memit"])))
    first = {one.title: one for one in sweep.plan.trajectories if one.seed == 0}
    assert list(first) == ["memit", *(f"m batch_size={b} sentences={s}" for b in (1, 4) for s in (100, 300))]
    # What a method leaves to the sweep keeps its id.
    assert [one.id for one in sweep.plan.trajectories if one.title == "memit"] == [
        one.id for one in plain.plan.trajectories
    ]
    for title, one in first.items():
        batch, sentences = (one.axes.get("batch_size", 2), one.axes.get("sentences", 300))
        assert (one.batch_size, sweep.specs[one.id].batch_size) == (batch, batch), title
        assert sweep.specs[one.id].moments.sentences == sentences
        (recipe,) = (recipe for recipe in sweep.plan.recipes if recipe.key == one.moments)
        assert recipe.sentences == sentences
    assert len(sweep.plan.recipes) == 2
    # Batches that differ are not another stream: tables and figures hold the methods side by side.
    assert {stream_name(one) for one in sweep.plan.trajectories} == {"factworld, shuffled, 6 edits"}
    assert {stream_name(one) for one in plain.plan.trajectories} == {"factworld, shuffled, 6 edits in batches of 2"}


@pytest.mark.parametrize(
    ("entry", "changes", "what", "key"),
    [
        (
            {"grid": {"batch_size": [2, 3]}},
            {},
            "multiple of batch_size (3) of 'memit batch_size=3'",
            "grid.batch_size[1]",
        ),
        ({"batch_size": 0}, {}, "greater than or equal to 1", "batch_size"),
        ({"moments": {"tokens": 9, "sentences": 9}}, {}, "one of them", "moments"),
        ({"moments": {"tokens": 9}}, {"moments": None}, "no corpus to take it from", "moments"),
    ],
)
def test_a_methods_own_settings_that_do_not_fit(
    tmp_path: Path, entry: dict[str, Any], changes: dict[str, Any], what: str, key: str
) -> None:
    error = refused(tmp_path, methods=[{"name": "memit", **entry}], **changes)
    assert what in error.what
    assert f"key methods[0].{key}" in str(error.where)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seeds=[3]", lambda spec: spec.seeds == (3,)),
        ("methods[0].hyperparameters.v_lr=0.3", lambda spec: spec.methods[0].hyperparameters == {"v_lr": 0.3}),
        ("methods[memit].label=plain", lambda spec: spec.methods[0].title == "plain"),
        ("methods[*].hyperparameters.v_lr=.1", lambda spec: spec.methods[1].hyperparameters == {"v_lr": 0.1}),
        ("models[factworld].dtype=bfloat16", lambda spec: spec.models[0].dtype == "bfloat16"),
        ("evaluators.geometry.previous=false", lambda spec: spec.evaluators.geometry == {"previous": False}),
        ("keep=last 2", lambda spec: spec.keep.text == "last 2"),
        ("moments=", lambda spec: spec.moments is None),
        ("methods[1].grid.hyperparameters.strength=[.1, .2]", lambda spec: len(spec.methods) == 3),
    ],
)
def test_set_replaces_a_value(tmp_path: Path, override: str, expected: Any) -> None:
    spec, _ = read_sweep(write_sweep(tmp_path, tiny()), [override])
    assert expected(spec)


@pytest.mark.parametrize(
    ("override", "what", "remedy"),
    [
        ("sedes=[1]", "unknown key 'sedes'", "did you mean 'seeds'?"),
        ("resources.replica.num_cpu=2", "unknown key 'num_cpu'", "did you mean 'num_cpus'?"),
        ("methods[1].hyperparameter.strength=2", "unknown key 'hyperparameter'", "did you mean 'hyperparameters'?"),
        ("methods[1].hyperparameters.strenght=2", "unknown hyperparameter 'strenght'", "did you mean 'strength'?"),
        ("evaluators.geometry.previus=1", "unknown key of evaluator 'geometry' 'previus'", "did you mean 'previous'?"),
        ("evaluators.geometri.previous=1", "unknown key 'geometri'", "did you mean 'geometry'?"),
        ("methods[alphaedit].label=x", "unknown entry of methods 'alphaedit'", "did you mean 'alphaedit+sphere'?"),
        ("methods[7].label=x", "methods has 2 entries", "count from 0"),
        ("seeds", "'seeds' sets nothing", "PATH=VALUE"),
        ("=3", "sets nothing", "PATH=VALUE"),
        ("seeds[=3", "sets nothing", "PATH=VALUE"),
        ("seeds=[1", "not valid YAML", "correct the syntax"),
        ("batch_size.x=1", "there is nothing below it", "as a whole"),
        ("batch_size=true", "true and false do not fit here", "give a number"),
        ("batch_size=0", "greater than or equal to 1", "batch_size"),
    ],
)
def test_a_wrong_set_is_refused_with_the_option_and_the_nearest_name(
    tmp_path: Path, override: str, what: str, remedy: str
) -> None:
    error = refused(tmp_path, overrides=(override,))
    assert what in error.what
    assert remedy in str(error.remedy)
    assert "--set" in str(error.where)


def test_later_values_replace_earlier_ones_inside_them(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny())
    spec, text = read_sweep(path, ["methods[0].label=a", "methods=[memit, rome]", "methods[1].label=b"])
    assert [one.title for one in spec.methods] == ["memit", "b"]
    assert text.where(("methods", 1, "label")) == "option --set methods[1].label"
    assert text.where(("methods", 0, "name")) == "option --set methods, key methods[0].name"


def test_the_plan_and_its_root_know_what_was_set(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny())
    changed, plain = load_sweep(path, ["seeds=[0, 7]"]), load_sweep(path)
    assert plan_sweep(sweep=path, overrides=["seeds=[0, 7]"]) == changed.plan
    assert changed.plan.set_options == "--set 'seeds=[0, 7]'"
    storage = Storage(tmp_path / "root")
    publish(changed, storage)
    with pytest.raises(InputError, match=r"it was run with --set 'seeds=\[0, 7\]'"):
        require_own_root(storage, plain.plan)
    require_own_root(storage, changed.plan)


def test_hyperparameters_of_one_method_are_set_by_name() -> None:
    assert set_hyperparameters(["strength=.5", "layers=[1, 2]", "cap.share=0.1", "cap.kind=soft"]) == {
        "strength": 0.5,
        "layers": [1, 2],
        "cap": {"share": 0.1, "kind": "soft"},
    }
    with pytest.raises(InputError, match="value of its own"):
        set_hyperparameters(["cap=1", "cap.share=0.1"])
