"""Sites: one orientation whatever the module stores, fp32 masters, and digests of what the network holds."""

import pytest
import torch
from tiny_models import tiny_model, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig

from sphere_core.errors import InputError
from sphere_core.linalg import DenseUpdate
from sphere_core.models import EditableModel, recognise_family

IDS = torch.tensor([[5, 9, 20, 33]])


def logits(model: EditableModel) -> torch.Tensor:
    with torch.no_grad():
        return model.network(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_update_through_the_site_is_the_update_by_hand(family: str) -> None:
    update = torch.randn(32, 72, generator=torch.Generator().manual_seed(1))
    model = tiny_model(family)
    (site,) = model.open_sites([1])
    assert (site.d_out, site.d_in) == (32, 72)
    assert site.transposed == (family == "gpt2")
    before = logits(model)
    model.add(site, DenseUpdate(update.double()))
    by_site = logits(model)
    by_hand = tiny_model(family)
    module = by_hand.network.get_submodule(site.module_path)
    with torch.no_grad():
        module.weight += update.T if family == "gpt2" else update
    assert torch.equal(by_site, logits(by_hand))
    assert not torch.allclose(by_site, before)
    model.restore_base()
    assert torch.equal(logits(model), before)


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


def test_half_precision_networks_keep_an_fp32_master() -> None:
    config = LlamaConfig(
        hidden_size=32, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4, vocab_size=320
    )
    network = LlamaForCausalLM(config).to(torch.bfloat16)
    family = recognise_family(config, where="test")
    model = EditableModel(network, tokenizer(adds_bos=True), family, base_digest="x")
    (site,) = model.open_sites([0])
    base = model.weight(site)
    small = torch.full((32, 72), 1e-5, dtype=torch.float64)
    for _ in range(4):
        model.add(site, DenseUpdate(small))
    assert model.weight(site).dtype is torch.float32
    assert torch.allclose(model.weight(site) - base, torch.full((32, 72), 4e-5), atol=1e-7)
    live = network.get_submodule(site.module_path).weight
    assert live.dtype is torch.bfloat16
    assert torch.equal(live, model.weight(site).to(torch.bfloat16))


def test_layers_out_of_range_and_unknown_families_are_named() -> None:
    with pytest.raises(InputError, match="layer 3 is out of range") as raised:
        tiny_model("llama").open_sites([3])
    assert "0 to 2" in str(raised.value)
    with pytest.raises(InputError, match="model type 'mixtral'"):
        recognise_family(MixtralConfig(), where="somewhere")
