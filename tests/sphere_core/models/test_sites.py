"""Sites: one orientation whatever the module stores, fp32 masters, and digests of what the network holds."""

import pytest
import torch
from tiny_models import tiny_model
from transformers import BertConfig

from sphere_core.foundation.errors import InputError
from sphere_core.models import EditableModel, recognise_family
from sphere_core.numerics.linalg import DenseUpdate

IDS = torch.tensor([[5, 9, 20, 33]])


def logits(model: EditableModel) -> torch.Tensor:
    with torch.no_grad():
        return model.network(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_edited_weights_travel_by_parameter_name_in_stored_orientation(family: str) -> None:
    model = tiny_model(family)
    sites = model.open_sites([0, 2])
    model.add(sites[0], DenseUpdate(torch.ones(32, 72, dtype=torch.float64)))
    stored = model.edited_weights()
    for name, weight in stored.items():
        assert torch.equal(weight, model.network.state_dict()[name])
    other = tiny_model(family)
    other.open_sites([0, 2])
    other.load_weights(stored)
    assert torch.equal(logits(other), logits(model))
    assert other.weights_digest() == model.weights_digest()
    other.load_weights({})
    assert other.weights_digest() == tiny_model(family).weights_digest() != model.weights_digest()


def test_digest_is_of_the_live_parameters() -> None:
    model = tiny_model("llama")
    (site,) = model.open_sites([1])
    clean = model.weights_digest()
    with torch.no_grad():
        model.network.get_submodule(site.module_path).weight[0, 0] += 1
    assert model.weights_digest() != clean


def test_layers_out_of_range_and_unknown_families_are_named() -> None:
    with pytest.raises(InputError, match="layer 3 is out of range") as raised:
        tiny_model("llama").open_sites([3])
    assert "0 to 2" in str(raised.value)
    with pytest.raises(InputError, match="model type 'bert'"):
        recognise_family(BertConfig(), where="somewhere")
