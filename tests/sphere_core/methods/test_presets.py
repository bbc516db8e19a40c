"""Presets: every method they name is complete, every value has its source, every layer is one the model has."""

from importlib import resources

import pytest
import yaml

from sphere_core.hyperparameters import preset, preset_names, preset_sources
from sphere_core.methods import example_names, resolve_method

# Layers of the models that presets are for, from their configs.
DEPTHS = {
    "factworld": 4,
    "gemma-3-27b": 62,
    "gpt-j-6b": 28,
    "gpt-j-6b-1layer": 28,
    "gpt-neox-20b": 44,
    "gpt2-large": 36,
    "gpt2-medium": 24,
    "gpt2-xl": 48,
    "llama2-7b": 32,
    "llama3-8b": 32,
    "llama3-8b-1layer": 32,
    "llama3.1-8b": 32,
    "llama3.2-1b": 16,
    "llama3.2-3b": 28,
    "mistral-7b": 32,
    "phi-1.5": 24,
    "phi-4": 40,
    "qwen2-7b": 28,
    "qwen2.5-7b": 28,
    "qwen2.5-7b-nas": 28,
    "qwen3-30b-a3b": 48,
    "qwen3.5-27b": 64,
    "qwen3.5-9b": 32,
}
# What no preset can name: models that a user trains first, neurons that are made elsewhere.
BROUGHT = {
    "neurons": {"neurons_file": "neurons.safetensors"},
    "serac": {"serac_classifier": "classifier", "serac_counterfactual": "counterfactual"},
}


def test_every_preset_is_looked_at() -> None:
    assert set(preset_names()) == set(DEPTHS)


@pytest.mark.parametrize("name", list(DEPTHS))
def test_what_a_preset_names_is_complete_and_cited(name: str) -> None:
    text = resources.files("sphere_core.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    sections = yaml.safe_load(text)
    named = [method for method in example_names() if method.split("+")[0] in sections["editors"]]
    assert {method.split("+")[0] for method in named} == set(sections["editors"])
    for method in named:
        editor, *regularizers = method.split("+")
        values = preset(name, editor, tuple(regularizers), BROUGHT.get(editor))
        resolve_method(method).check(values, where=f"preset '{name}', {method}")
        assert all(0 <= layer < DEPTHS[name] for layer in values.layers), method
        sources = preset_sources(name, editor, tuple(regularizers))
        assert all(source.strip() and "[" not in source for _, source in sources.values()), method
