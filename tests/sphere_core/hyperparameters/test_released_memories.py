"""Published files of editors that change no weight, of LoRA; switches refused with a reason; two names."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import read_hyperparameters
from sphere_core.methods import resolve_method

FILES = Path(__file__).parents[2] / "data" / "hyperparameters"
MEMIT: dict[str, Any] = {
    **{"layers": [4], "v_lr": 0.1, "v_num_grad_steps": 5, "v_weight_decay": 0.5, "clamp_norm_factor": 0.75},
    **{"kl_factor": 0.0625, "mom2_update_weight": 15000},
}
SERAC = {"layers": [0], "serac_classifier": "a", "serac_counterfactual": "b", "memory_threshold": 0.5, "archive": "c"}
RETRIEVE = {"layers": [0], "memory_threshold": 0.5}


def published(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((FILES / f"{name}.yaml").read_text())
    return values


def refusal(folder: Path, method: str, values: dict[str, Any]) -> str:
    path = folder / "file.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError) as raised:
        read_hyperparameters(path, method.split("+"))
    return str(raised.value)


@pytest.mark.parametrize(
    ("method", "expected", "noted"),
    [
        (
            "wise",
            {
                **{"layers": (1,), "lr": 0.5, "num_steps": 8, "wise_share": 0.3, "wise_margins": (0.2, 1.0, 0.5)},
                **{"wise_ratio": 1.1, "wise_shard_edits": 2, "wise_merge_edits": 4, "wise_density": 0.25},
                **{"norm_constraint": 0.1, "weight_decay": 1e-5, "memory_stop_loss": 0.02, "memory_background": 100},
            },
            "memory_stop_loss = 0.02",
        ),
        (
            "grace",
            {"layers": (1,), "lr": 0.3, "num_steps": 8, "grace_radius": 0.5, "grace_start": "warm", "memory_seed": 0},
            "memory_seed = 0",
        ),
        (
            "memoir",
            {
                **{"layers": (1,), "lr": 1.0, "num_steps": 8, "memoir_keep": 16, "memory_threshold": 0.5},
                **{"gradient_clip": 1.0, "weight_decay": 1e-5},
            },
            "gradient_clip = 1.0",
        ),
        (
            "lora",
            {
                **{"layers": (1, 2), "sites": {"up": (1, 2), "down": (1, 2)}, "lora_rank": 8, "lora_scale": 4},
                **{"lora_seed": 0, "lr": 5e-3, "batch_size": 4},
            },
            "lora_alpha: divided by the rank; the rate falls",
        ),
    ],
)
def test_published_files_of_other_editors_are_read(method: str, expected: dict[str, Any], noted: str) -> None:
    found = read_hyperparameters(FILES / f"{method}.yaml", [method])
    assert {name: getattr(found.values, name) for name in expected} == expected
    assert found.values.rewrite_module_tmp == (None if method == "lora" else "model.layers.{}.mlp.down_proj")
    assert any(noted in note for note in found.notes)
    resolve_method(method).check(found.values, where="file")


@pytest.mark.parametrize(
    ("method", "base", "change", "why"),
    [
        ("wise", "wise", {"retrieve": False}, "one merged memory"),
        ("wise", "wise", {"merge_alg": "dare_ties"}, "merged by TIES"),
        ("wise", "wise", {"replay": True}, "not replayed"),
        ("wise", "wise", {"use_chat_template": True}, "chat template, and prompts are edited"),
        ("memit", MEMIT, {"use_chat_template": True, "enable_thinking": False}, "chat template"),
        ("grace", "grace", {"replacement": "replace_prompt"}, "the prompt's last token"),
        ("grace", "grace", {"eps_expand": "moving_average"}, "a radius grows"),
        ("memoir", "memoir", {"prompt_feature_agg": "mean"}, "less that of other texts"),
        ("lora", "lora", {"lora_type": "adalora"}, "AdaLoRA"),
        ("lora", "lora", {"lora_dropout": 0.1}, "without dropout"),
        ("lora", "lora", {"target_modules": ["q_proj", "v_proj"]}, "not q_proj, v_proj"),
        ("lora", "lora", {"target_modules": ["c_proj"]}, "not c_proj"),
        ("lora", "lora", {"rank": 0}, "is divided by 'rank'"),
        ("retrieve", RETRIEVE, {"k": 16}, "demonstrations of a training set"),
        ("serac", SERAC, {"cls_name": "some/bert"}, "'serac_classifier' the folder"),
        ("serac", SERAC, {"cos": True}, "squared Euclidean"),
        ("memit", MEMIT, {"nll_loss_factor": 0.5}, "PMET"),
        ("r_rome", MEMIT, {"original_implementation": True}, "'rome'"),
        ("rome", MEMIT, {"enable_prompt_keys": True}, "random prefixes"),
        ("lyaplock", MEMIT, {"V": 2}, "weight of the edits' loss"),
    ],
)
def test_what_an_editor_does_not_do_is_refused_by_key_with_the_reason(
    tmp_path: Path, method: str, base: str | dict[str, Any], change: dict[str, Any], why: str
) -> None:
    own = published(base) if isinstance(base, str) else base
    said = refusal(tmp_path, method, {**own, **change})
    key = "lora_alpha" if "rank" in change else next(iter(change))
    assert why in said
    assert f"'{key}'" in said or f"{key}:" in said


@pytest.mark.parametrize(
    ("method", "base", "more"),
    [
        ("memit", MEMIT, {"use_chat_template": False, "enable_thinking": True, "nll_loss_factor": 1.0}),
        ("r_rome", MEMIT, {"original_implementation": False, "enable_random_prefix_keys": True}),
        ("rome", MEMIT, {"original_implementation": True, "enable_prompt_keys": False}),
        ("lyaplock", MEMIT, {"V": 1, "D_base": None}),
        ("retrieve", RETRIEVE, {"k": 0, "use_icl_examples": False, "results_dir": "./results"}),
        ("serac", SERAC, {"lr": 1e-5, "inner_params": [], "square": True, "dist_heads": 1, "grad_clip": 100.0}),
    ],
)
def test_keys_at_the_value_that_is_done_here_change_nothing(
    tmp_path: Path, method: str, base: dict[str, Any], more: dict[str, Any]
) -> None:
    found = []
    for values in (base, {**base, **more}):
        path = tmp_path / "file.json"
        path.write_text(json.dumps(values))
        found.append(read_hyperparameters(path, [method]).values.identity())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("method", "values", "first", "second"),
    [
        ("memit+sphere", MEMIT, {"alpha": 0.5}, {"suppression_strength": 0.8}),
        ("memit+sphere", MEMIT, {"cumulative_ratio": 0.4}, {"beta_hse": 0.5}),
        ("memit+sphere", MEMIT, {"strength": 0.4}, {"alpha": 0.5}),
        ("nse", MEMIT, {"upper_bound": 4}, {"nse_upper_bound": 5}),
        ("wise", {**published("wise")}, {"n_iter": 8}, {"num_steps": 9}),
        ("grace", {**published("grace")}, {"inner_params": ["model.layers[1].mlp.down_proj.weight"]}, {"layers": [2]}),
        ("lora", {**published("lora")}, {"lora_alpha": 32}, {"lora_scale": 5}),
    ],
)
def test_two_names_of_one_hyperparameter_must_agree(
    tmp_path: Path, method: str, values: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    said = refusal(tmp_path, method, {**values, **first, **second})
    assert all(f"{key}'" in said or f"{key}:" in said for key in (*first, *second))
    assert "leave one of them out" in said
    if not isinstance(next(iter(first.values())), list) and method != "lora":
        path = tmp_path / "file.json"
        path.write_text(json.dumps({**values, **first, **dict.fromkeys(second, next(iter(first.values())))}))
        read_hyperparameters(path, method.split("+"))
