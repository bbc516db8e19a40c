"""Published hyperparameter files are read as they are: JSON and YAML, every method's spelling, all faults at once."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import Hyperparameters, ReleasedFile, fields_of, read_hyperparameters
from sphere_core.methods import EDITORS, resolve_method

# What MEMIT's files of all methods share, on a model of 32 layers.
COMMON: dict[str, Any] = {
    "layers": [4, 5, 6],
    "clamp_norm_factor": 0.75,
    "layer_selection": "all",
    "fact_token": "subject_last",
    "v_num_grad_steps": 25,
    "v_lr": 0.1,
    "v_loss_layer": 31,
    "v_weight_decay": 0.5,
    "kl_factor": 0.0625,
    "mom2_adjustment": True,
    "mom2_update_weight": 15000,
    "rewrite_module_tmp": "model.layers.{}.mlp.down_proj",
    "layer_module_tmp": "model.layers.{}",
    "mlp_module_tmp": "model.layers.{}.mlp",
    "attn_module_tmp": "model.layers.{}.self_attn",
    "ln_f_module": "model.norm",
    "lm_head_module": "lm_head",
    "mom2_dataset": "wikipedia",
    "mom2_n_samples": 100000,
    "mom2_dtype": "float32",
}
# As EasyEdit's YAML files begin.
EASYEDIT = {"model_name": "./cache/llama", "stats_dir": "./data/stats", "device": 0, "model_parallel": False}
FT = {"layers": [21], "num_steps": 25, "lr": 5e-4, "weight_decay": 0, "kl_factor": 0, "norm_constraint": False}


def read(folder: Path, method: str, values: dict[str, Any], *, suffix: str = ".json") -> ReleasedFile:
    path = folder / f"file{suffix}"
    path.write_text(json.dumps(values) if suffix == ".json" else yaml.safe_dump(values))
    return read_hyperparameters(path, method.split("+"))


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
@pytest.mark.parametrize(
    ("method", "more", "expected"),
    [
        ("memit", {}, {"mom2_update_weight": 15000}),
        ("memit", {**EASYEDIT, "alg_name": "MEMIT"}, {}),
        ("alphaedit", {"nullspace_threshold": 0.02, "L2": 10, "prob_cutoff": 0, "norm_control": 0}, {"L2": 10}),
        (
            "alphaedit",
            {**EASYEDIT, "P_loc": "./p.pt", "nullspace_threshold": 0.02, "L2": 1, "batch_size": 7},
            {"L2": 1},
        ),
        ("rome", {"bias_update": False, "context_template_length_params": [[5, 10], [10, 10]]}, {"v_lr": 0.1}),
        ("r_rome", {**EASYEDIT, "alg_name": "R-ROME", "fp16": False}, {"v_lr": 0.1}),
        (
            "emmet",
            {"calculate_objective_value": False, "update_norm_lambda": 0, "emmet_lambda": 0.1, "norm_control": 0},
            {"emmet_lambda": 0.1, "update_norm_lambda": 0},
        ),
        (
            "encore",
            {
                **{"calculate_objective_value": False, "add_prev_edits": True, "update_norm_lambda": 20},
                **{"emmet_lambda": 0.1, "prob_cutoff": -2, "norm_control": 0, "dynamic_multiplier": 0},
                **{"random_vector_preservation": False, "use_gd": False, "grad_desc_lr": 0.1, "spectral_norm": 0},
            },
            {"prob_cutoff": -2, "update_norm_lambda": 20, "encore_stop": "five_tokens"},
        ),
        (
            "nse",
            {"alpha": 2.5, "upper_bound": 50, "max_iterations": 3, "neuron_threshold": 1.0},
            {"nse_alpha": 2.5, "nse_upper_bound": 50, "max_iterations": 3},
        ),
        ("lyaplock", {"mom2_dtype": "float64"}, {"lyaplock_alpha": 60}),
        ("lyaplock", {"alpha": 80}, {"lyaplock_alpha": 80}),
        ("memit+nas", {"use_nas": False, "nas_restart": 1000, "sequential": True}, {"nas_factor": 2}),
        ("memit+rect", {}, {"rect_keep": 0.4}),
        ("alphaedit+sphere", {"nullspace_threshold": 0.02, "L2": 10}, {"energy_ratio": 0.5, "strength": 0.5}),
        ("memit+sphere", {}, {"energy_ratio": 0.5, "strength": 0.8}),
        (
            "alphaedit+sphere",
            {"nullspace_threshold": 0.02, "L2": 1, "cumulative_ratio": 0.4, "suppression strength": 0.3},
            {"energy_ratio": 0.4, "strength": 0.3},
        ),
        ("memit+sphere", {"beta_hse": 0.6, "alpha": 0.7}, {"energy_ratio": 0.6, "strength": 0.7}),
    ],
)
def test_a_published_file_is_read_as_it_is(
    tmp_path: Path, suffix: str, method: str, more: dict[str, Any], expected: dict[str, float]
) -> None:
    found = read(tmp_path, method, {**COMMON, **more}, suffix=suffix).values
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.layers == (4, 5, 6)
    resolve_method(method).check(found, where="file")


@pytest.mark.parametrize("method", ["ft", "ft_l"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"rewrite_module_tmp": "model.layers.{}.mlp.down_proj.weight"},
        {"weight_decay": False, "wd_power_law": [-0.8, 0.1]},
        {**EASYEDIT, "objective_optimization": "prompt_last", "max_length": 40},
    ],
)
def test_fine_tuning_takes_the_batch_that_its_release_has_in_the_code(
    tmp_path: Path, method: str, more: dict[str, Any]
) -> None:
    values = {**FT, **more, **({"norm_constraint": "5e-5"} if method == "ft_l" else {})}
    found = read(tmp_path, method, values)
    assert (found.values.batch_size, found.values.weight_decay) == (64, 0)
    assert not str(found.values.rewrite_module_tmp).endswith(".weight")
    assert any("batch_size = 64" in note and "BATCH_SIZE" in note for note in found.notes)
    resolve_method(method).check(found.values, where="file")
    own = read(tmp_path, method, {**values, "batch_size": 3})
    assert (own.values.batch_size, own.notes) == (3, ())


def test_numbers_without_a_point_are_numbers_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "memit.yml"
    text = yaml.safe_dump({**COMMON, "v_lr": "X", "v_weight_decay": "Y"}).replace("X", "3e-1").replace("Y", "1e-3")
    path.write_text(f"# a comment\n{text}")
    found = read_hyperparameters(path, ["memit"]).values
    assert (found.v_lr, found.v_weight_decay) == (0.3, 0.001)


def test_json_is_read_whatever_it_is_called_and_yaml_without_a_suffix(tmp_path: Path) -> None:
    for name, text in (("a.txt", "\ufeff" + json.dumps(COMMON)), ("b", yaml.safe_dump(COMMON))):
        (tmp_path / name).write_text(text)
        assert read_hyperparameters(tmp_path / name, ["memit"]).values.mom2_update_weight == 15000


def test_ultraedit_names_its_modules_one_by_one(tmp_path: Path) -> None:
    values = {
        **{"inner_params": [f"transformer.h.{layer}.mlp.fc_out" for layer in (18, 20)], "lr": "1e-6"},
        **{"batch_size": 100, "batch_size_once": 10, "token": "mask", "dropout": 0.0, "no_grad_layers": None},
        **{"half": True, "silent": False, "editor_batch_size": 1024, "tokenizer_class": "AutoTokenizer"},
    }
    found = read(tmp_path, "ultraedit", values).values
    assert (found.layers, found.rewrite_module_tmp) == ((18, 20), "transformer.h.{}.mlp.fc_out")
    assert (found.batch_size, found.lr, found.ultraedit_sharing) == (10, 1e-6, "shape")
    mixed = {
        **values,
        "inner_params": [f"model.layers.{at}.mlp.{kind}_proj" for at in (3, 2) for kind in ("up", "gate")],
    }
    mixed["inner_params"].append("model.layers.5.mlp.down_proj")
    read_back = read(tmp_path, "ultraedit", mixed).values
    assert read_back.sites == {"up": (2, 3), "gate": (2, 3), "down": (5,)}
    assert read_back.places == ("2.gate", "2.up", "3.gate", "3.up", 5)
    with pytest.raises(InputError, match=r"matrices of MLPs are needed, not model\.layers\.3\.self_attn\.q_proj"):
        read(tmp_path, "ultraedit", {**values, "inner_params": ["model.layers.3.self_attn.q_proj"]})


def test_crispedit_names_its_share_of_energy(tmp_path: Path) -> None:
    values = {
        **{"alg_name": "CrispEdit", "layers": [19, 20], "num_steps": 25, "batch_size": 32, "max_length": 40},
        **{"lr": "5e-4", "weight_decay": 0, "kl_factor": 0, "norm_constraint": False, "energy_threshold": 0.99},
        **{"objective_optimization": "target_new", "rewrite_module_tmp": "model.layers.{}.mlp.down_proj.weight"},
        **{"model_parallel": False, "mom2_dataset": "wikipedia", "mom2_n_samples": 1000, "mom2_dtype": "float32"},
    }
    found = read(tmp_path, "crispedit", values).values
    assert (found.crisp_energy, found.lr, found.batch_size, found.num_steps) == (0.99, 5e-4, 32, 25)


def test_simie_wraps_an_editor(tmp_path: Path) -> None:
    values = {**COMMON, "lamHyper": 500.0, "init_model": False, "solver": "LU", "fast": False, "base_method": "ROME"}
    found = read(tmp_path, "rome+simie", values).values
    assert (found.simie_lambda, found.simie_start) == (500, "current")
    with pytest.raises(InputError, match="'layers': is missing"):
        read(tmp_path, "rome+simie", {"lamHyper": 500.0, "init_model": True})


@pytest.mark.parametrize(
    ("method", "change", "named"),
    [
        ("memit", {"v_lr": float("inf")}, ["v_lr"]),
        ("memit", {"v_lr": float("nan")}, ["v_lr"]),
        ("memit", {"v_lr": "1e999"}, ["v_lr"]),
        ("memit", {"v_lr": 1e9}, ["v_lr"]),
        ("memit", {"mom2_update_weight": 1e300}, ["mom2_update_weight"]),
        ("memit", {"v_num_grad_steps": 10**12}, ["v_num_grad_steps"]),
        ("memit", {"v_num_grad_steps": True}, ["v_num_grad_steps"]),
        ("memit", {"layers": [True, 5]}, ["layers"]),
        ("memit", {"layers": [-1]}, ["layers"]),
        ("memit", {"layers": [5, 4]}, ["layers"]),
        ("memit", {"layers": "4,5"}, ["layers"]),
        ("memit", {"clamp_norm_factor": False}, ["clamp_norm_factor"]),
        ("memit", {"fact_token": "last"}, ["fact_token"]),
        ("memit", {"layer_selection": "random"}, ["layer_selection"]),
        ("rome", {"bias_update": True}, ["bias_update"]),
        ("encore", {"norm_control": 0.3}, ["norm_control"]),
        ("encore", {"use_gd": True}, ["use_gd"]),
        (
            "memit",
            {"v_lr": -1, "kl_factor": -1, "layers": [], "mom2_weight": 3},
            ["v_lr", "kl_factor", "layers", "mom2_weight"],
        ),
    ],
)
def test_every_fault_is_named_at_once(tmp_path: Path, method: str, change: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, method, {**COMMON, **change})
    for name in named:
        assert name in f"{raised.value.what} {raised.value.where}"
    assert str(tmp_path / "file.json") in str(raised.value.where)
    assert raised.value.remedy
    assert len(str(raised.value).splitlines()) < 15


@pytest.mark.parametrize(
    ("method", "key", "offered", "never"),
    [
        ("memit", "alpha", None, "nse_alpha"),
        ("memit", "upper_bound", None, "nse_upper_bound"),
        ("memit", "nse_alhpa", None, "nse_alpha"),
        ("memit", "mom2_update_wieght", "mom2_update_weight", "emmet_lambda"),
        ("ft", "v_lrs", "lr", "v_lr"),
        ("memit", "strenght", None, "strength"),
        ("memit+sphere", "strenght", "strength", "simie_start"),
    ],
)
def test_a_hyperparameter_of_another_method_is_not_offered(
    tmp_path: Path, method: str, key: str, offered: str | None, never: str
) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, method, {**(FT if method == "ft" else COMMON), key: 1})
    remedy = str(raised.value.remedy)
    assert raised.value.what == f"unknown hyperparameter '{key}'"
    assert (f"did you mean '{offered}'" in remedy) == (offered is not None)
    assert f"'{never}'" not in remedy
    assert never not in remedy.replace(",", "").split()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1, 2]", "must be one object"),
        ('"memit"', "must be one object"),
        ("", "must be one object"),
        ('{"layers": [0], "layers": [1]}', "given twice"),
        ('{"layers": [0],}', "not valid JSON"),
        ("layers: [0\nv_lr: 1", "not valid YAML"),
        ("layers: &a [*a]", "alias contains itself"),
        ("version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_files_that_hold_no_hyperparameters(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(InputError, match=what):
        read_hyperparameters(path, ["memit"])


def test_a_method_says_whether_it_keeps_earlier_edits(tmp_path: Path) -> None:
    values = {**COMMON, "add_prev_edits": True, "emmet_lambda": 0.1}
    assert "keeps no keys of earlier edits" in read(tmp_path, "emmet", values).notes[0]
    assert read(tmp_path, "memit_seq", values).notes == ()
    assert read(tmp_path, "emmet", {**values, "add_prev_edits": False}).notes == ()


def test_every_entry_of_the_table_names_a_hyperparameter_a_method_and_a_source() -> None:
    text = resources.files("sphere_core.hyperparameters").joinpath("released_keys.yaml").read_text()
    table = yaml.safe_load(text)
    ours = set(Hyperparameters.model_fields)
    for entries in table["aliases"].values():
        for entry in entries:
            assert entry["name"] in ours
            assert entry["source"] in table["sources"]
    rules = [rule for entry in table["only_off"].values() for rule in (entry if isinstance(entry, list) else [entry])]
    for rule in (*rules, *table["unset"].values(), *table["said_by_the_method"].values()):
        assert rule["source"] in table["sources"]
    for row, entry in table["ignored_for"].items():
        assert entry["source"] in table["sources"]
        assert not {*entry["keys"]} & fields_of([row])
        assert row in EDITORS
    assert set(table["ignored"]) <= set(table["sources"])
    for row, values in table["constants"].items():
        method = row if "+" in row or row in EDITORS else f"memit+{row}"
        assert resolve_method(method)
        for name, entry in values.items():
            assert name in ours
            assert entry["source"]
    keys = [*table["aliases"], *table["only_off"], *table["said_by_the_method"]]
    keys += [key for named in table["ignored"].values() for key in named]
    assert len(keys) == len(set(keys)), "a key is in the table twice"
    assert not {key for key in keys if key in ours}
