"""Expanding a sweep: ids by content, every input checked, nothing written."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep_files import tiny, write_sweep

from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.foundation.errors import InputError
from workflows.sweeps.expand import Sweep, load_sweep


def planned(folder: Path, **changes: Any) -> Sweep:
    return load_sweep(write_sweep(folder, tiny(**changes)))


def ids(sweep: Sweep) -> set[str]:
    return {trajectory.id for trajectory in sweep.plan.trajectories}


@pytest.fixture(scope="module")
def tiny_sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return planned(tmp_path_factory.mktemp("tiny"))


def record(case: int = 0, **changes: Any) -> dict[str, Any]:
    rewrite = {
        "prompt": "{} lives in",
        "subject": f"Person {case}",
        "target_new": {"str": "Rome"},
        "target_true": {"str": "Oslo"},
    }
    rewrite = {key: value for key, value in {**rewrite, **changes}.items() if value is not None}
    return {"case_id": case, "requested_rewrite": rewrite, "paraphrase_prompts": [], "neighborhood_prompts": []}


def test_the_grid_is_models_by_streams_by_methods_by_seeds(tiny_sweep: Sweep) -> None:
    plan = tiny_sweep.plan
    assert [(t.title, t.seed) for t in plan.trajectories] == [
        ("memit", 0),
        ("memit", 1),
        ("alphaedit+sphere", 0),
        ("alphaedit+sphere", 1),
    ]
    assert len(ids(tiny_sweep)) == 4
    assert plan.trajectories[2].editor == "alphaedit"
    assert plan.trajectories[2].regularizer == "sphere"
    assert plan.trajectories[0].wanted == (4, 6)
    assert set(tiny_sweep.specs) == ids(tiny_sweep)


def test_unedited_models_are_scored_once_for_all(tiny_sweep: Sweep) -> None:
    kinds = [base.evaluation.kind for base in tiny_sweep.plan.bases]
    # Two seeds shuffle the stream into two sets of requests; geometry asks nothing.
    assert sorted(kinds) == ["edit_quality", "edit_quality", "geometry"]
    assert len({base.rows_path for base in tiny_sweep.plan.bases}) == 3


def test_ids_of_evaluations_that_are_computed_once_are_those_of_each_alone(tmp_path: Path) -> None:
    streams = [{"dataset": "factworld", "edits": edits, "order": "shuffled"} for edits in (6, 8)]
    methods = ["memit", "alphaedit"]
    evaluators = {"edit_quality": {"generation": {"fluency": {"length": 8}}}, "geometry": {}}
    together = planned(tmp_path / "all", streams=streams, methods=methods, evaluators=evaluators)
    alone = [
        planned(tmp_path / "one", streams=[stream], methods=[method], seeds=[seed], evaluators=evaluators)
        for method in methods
        for stream in streams
        for seed in (0, 1)
    ]
    assert [t.evaluations for t in together.plan.trajectories] == [s.plan.trajectories[0].evaluations for s in alone]
    quality, geometry = ({t.evaluations[place].id for t in together.plan.trajectories} for place in range(2))
    # Fluency reads texts of the requests, which every stream and seed has others of; geometry the schedule.
    assert (len(quality), len(geometry)) == (4, 2)


def test_second_moments_are_built_once_for_all(tiny_sweep: Sweep) -> None:
    assert len(tiny_sweep.plan.recipes) == 1
    assert {t.moments for t in tiny_sweep.plan.trajectories} == {tiny_sweep.plan.recipes[0].key}


def test_a_method_that_requires_gradients_has_moments_of_its_own_and_moves_no_other(
    tiny_sweep: Sweep, tmp_path: Path
) -> None:
    both = planned(tmp_path, methods=["memit", "alphaedit+sphere", "crispedit"])
    assert ids(both) > ids(tiny_sweep)
    by_key = {recipe.key: recipe for recipe in both.plan.recipes}
    waits = {t.method: by_key[t.moments] for t in both.plan.trajectories if t.moments is not None}
    assert waits["memit"] == waits["alphaedit+sphere"]
    assert (waits["memit"].gradients, waits["crispedit"].gradients) == (False, True)
    assert waits["memit"].key == tiny_sweep.plan.recipes[0].key


def test_sites_of_a_layer_share_no_identity_with_its_down_projection(tmp_path: Path) -> None:
    methods = [{"name": "ft", "hyperparameters": {"layers": [1]}}]
    methods += [{"name": "ft", "label": name, "hyperparameters": {"sites": {name: [1]}}} for name in ("gate", "down")]
    sweep = planned(tmp_path, methods=methods, seeds=[0])
    assert len(ids(sweep)) == 3
    places = [base.layers for base in sweep.plan.bases if base.evaluation.kind == "geometry"]
    assert places == [(1,), ("1.gate",)]


@pytest.mark.parametrize(
    "how",
    [
        {"name": "other"},
        {"checkpoint_every": 2},
        {"resources": {"threads": 1, "replica": {"num_cpus": 2, "num_gpus": 0, "device": "cpu"}, "max_replicas": 3}},
        {"evaluators": {"geometry": {}}},
        {"seeds": [1, 0]},
    ],
    ids=lambda how: next(iter(how)),
)
def test_how_a_sweep_is_run_does_not_change_the_ids(tmp_path: Path, tiny_sweep: Sweep, how: dict[str, Any]) -> None:
    assert ids(planned(tmp_path, **how)) == ids(tiny_sweep)


@pytest.mark.parametrize(
    "what",
    [
        {"batch_size": 4},
        {"seeds": [2, 3]},
        {"resources": {"threads": 2}},
        {"moments": {"corpus": "factworld", "sentences": 601}},
        {"moments": {"corpus": "factworld", "sentences": 600, "seed": 1}},
        {"contexts": {"seeds": ["A"], "length": 6, "top_k": 5}},
        {"models": [{"source": "factworld", "dtype": "bfloat16", "preset": "factworld"}]},
        {"streams": [{"dataset": "factworld", "edits": 5, "order": "shuffled"}]},
        {"methods": [{"name": "memit", "hyperparameters": {"v_lr": 0.31}}, "memit+sphere"]},
    ],
    ids=lambda what: next(iter(what)),
)
def test_what_is_computed_changes_every_id(tmp_path: Path, tiny_sweep: Sweep, what: dict[str, Any]) -> None:
    assert not ids(planned(tmp_path, **what)) & ids(tiny_sweep)


def test_other_methods_in_the_grid_do_not_change_an_id(tmp_path: Path, tiny_sweep: Sweep) -> None:
    # A method that edits more layers makes the sweep build more second moments, not other ones.
    wider = {"name": "memit", "label": "wider", "hyperparameters": {"layers": [0, 1, 2]}}
    assert ids(planned(tmp_path, methods=["memit", "alphaedit+sphere", wider])) > ids(tiny_sweep)


def test_evaluator_settings_change_row_files_only(tmp_path: Path, tiny_sweep: Sweep) -> None:
    other = planned(tmp_path, evaluators={"edit_quality": {"cohort": 2}, "geometry": {}})
    assert ids(other) == ids(tiny_sweep)
    before, after = tiny_sweep.plan.trajectories[0].evaluations, other.plan.trajectories[0].evaluations
    assert before[0].id != after[0].id
    assert before[1] == after[1]


def test_a_models_folder_may_move(tmp_path: Path, tiny_sweep: Sweep) -> None:
    shutil.copytree(shipped_model_dir(), tmp_path / "elsewhere")
    moved = {"source": "elsewhere", "dtype": "float32", "preset": "factworld"}
    assert ids(planned(tmp_path, models=[moved])) == ids(tiny_sweep)


def test_paths_are_taken_from_the_sweep_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "facts.json").write_text(json.dumps([record(i) for i in range(6)]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    stream = {"dataset": "counterfact", "path": "facts.json", "edits": 6}
    sweep = planned(tmp_path / "sweep", streams=[stream])
    spec = sweep.specs[sweep.plan.trajectories[0].id]
    assert spec.stream.path == str(tmp_path / "sweep" / "facts.json")
    # File order does not depend on the seed, yet the templates do: two trajectories on one stream.
    assert len({t.stream_digest for t in sweep.plan.trajectories}) == 1
    assert len(sweep.plan.bases) == 2


def wrong_moments(folder: Path, **arrays: np.ndarray) -> dict[str, Any]:
    np.savez(folder / "moments.npz", **arrays)
    return {"file": "moments.npz"}


PUBLISHED = {
    **{"source": "a paper", "model": "factworld", "dataset": "factworld", "edits": 10, "protocol": "argmax"},
    **{"metrics": ["efficacy", "generalization"], "values": {"memit": [0.5, 0.5]}},
}


@pytest.mark.parametrize(
    ("changes", "what", "where"),
    [
        ({"methods": ["memit", "alphaedti"]}, "unknown method 'alphaedti'", "methods[1]"),
        ({"methods": ["memit+spere"]}, "unknown method 'memit+spere'", "methods[0]"),
        ({"methods": [{"name": "memit", "hyperparameters": {"v_lrr": 1}}]}, "'v_lrr'", "preset 'factworld'"),
        ({"methods": [{"name": "memit", "hyperparameters": {"layers": [9]}}]}, "layer 9 is out of range", ""),
        ({"models": [{"source": "./no-model", "dtype": "float32", "preset": "factworld"}]}, "", "models[0]"),
        ({"models": [{"source": "factworld", "dtype": "float32", "preset": "no"}]}, "unknown preset", ""),
        ({"streams": [{"dataset": "factworld", "edits": 10**6}]}, "requires 1000000 edits", ""),
        ({"streams": [{"dataset": "counterfact", "path": "no.json", "edits": 1}]}, "not found", "no.json"),
        ({"moments": None}, "needs second moments", "sweep.yaml"),
        ({"moments": {"corpus": "no.txt", "sentences": 5}}, "corpus file not found", "moments"),
        ({"moments": {"file": "no.npz"}}, "moments file not found", "no.npz"),
        ({"evaluators": {}}, "no evaluator", "evaluators"),
        ({"evaluators": {"general": {"tasks": ["factwrld"]}}}, "unknown task 'factwrld'", ""),
        ({"evaluators": {"edit_quality": {"cohrt": 3}}}, "'cohrt'", "evaluators.edit_quality"),
        ({"methods": ["memit", {"name": "memit", "label": "same"}]}, "the same trajectory", "methods"),
        ({"published": [PUBLISHED | {"tolerance": [0.02]}]}, "tolerance has 1 values for 2 metrics", "published[0]"),
        ({"published": [PUBLISHED | {"tolerance": [0.02, -1]}]}, "greater than or equal to 0", "published[0]"),
    ],
)
def test_wrong_input_is_refused_with_its_place(tmp_path: Path, changes: dict[str, Any], what: str, where: str) -> None:
    with pytest.raises(InputError) as caught:
        planned(tmp_path, **changes)
    assert what in caught.value.what
    assert where in f"{caught.value.where}"
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"layer0": np.eye(512), "layer1": np.eye(511)}, "(511, 511)"),
        ({"layer0": np.eye(512), "layer1": np.ones((512, 3))}, "must be square"),
        ({"layer0": np.eye(512)}, "no second moment for layer 1"),
        ({"other": np.eye(512)}, "no array is called layer0"),
        ({"layer0": np.eye(512), "layer1": np.full((512, 512), np.nan)}, "not finite"),
    ],
)
def test_second_moments_of_the_wrong_kind_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], what: str) -> None:
    with pytest.raises(InputError) as caught:
        planned(tmp_path, moments=wrong_moments(tmp_path, **arrays))
    assert what in caught.value.what
    assert "moments.npz" in str(caught.value.where)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"target_new": None}, "requested_rewrite.target_new"),
        ({"subject": None}, "requested_rewrite.subject"),
        ({"prompt": "Who lives in"}, "must hold '{}' exactly once"),
    ],
)
def test_a_faulty_record_is_refused_by_file_record_and_field(
    tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    records = [record(0), record(1, **changes)]
    (tmp_path / "facts.json").write_text(json.dumps(records), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        planned(tmp_path, streams=[{"dataset": "counterfact", "path": "facts.json", "edits": 2}])
    assert what in str(caught.value)
    assert "case 1" in str(caught.value.where)
