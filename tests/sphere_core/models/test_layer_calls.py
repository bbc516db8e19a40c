"""The name of a key-value cache: it has changed between releases of transformers, and a module says which it takes."""

import pytest
import torch
from tiny_models import DENSE, tiny_model
from torch import nn

from sphere_core.models.layer_calls import CACHE_NAMES, cache_argument, recorder


class Renamed(nn.Module):
    def forward(self, hidden_states, attention_mask=None, cache=None, use_cache=False):
        return hidden_states


class Positional(nn.Module):
    def forward(self, hidden_states, layer_past=None):
        return hidden_states


class Remote(nn.Module):
    def forward(self, *args, **kwargs):
        return args


@pytest.mark.parametrize(
    ("module", "name"), [(Renamed(), "cache"), (Positional(), "layer_past"), (Remote(), "past_key_values")]
)
def test_a_module_says_how_it_calls_its_cache(module: nn.Module, name: str) -> None:
    assert cache_argument(module) == name


@pytest.mark.parametrize("family", DENSE)
def test_a_family_s_cache_has_one_known_name_in_its_decoder_its_layers_and_its_output(family: str) -> None:
    model = tiny_model(family)
    name, calls = cache_argument(model.network), {}
    model.layers[1].register_forward_pre_hook(recorder(calls, 1), with_kwargs=True)
    with torch.no_grad():
        output = model.network(input_ids=torch.tensor([[3, 4, 5]]), use_cache=True)
    assert output[name].get_seq_length() == 3
    assert name == cache_argument(model.decoder)
    # A name that is not known would be handed on with what it held, beside the one that is replaced.
    known = CACHE_NAMES | {"use_cache", "cache_position"}
    assert len(calls[1].keys() & CACHE_NAMES) == 1
    assert not {given for given in calls[1] if "cache" in given or "past" in given} - known
