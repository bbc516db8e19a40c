"""Gate and up projections as sites, in every dense family: orientation, gradients, state, digests, refusals."""

import pytest
import torch
from method_parts import editor, likelihood, run, values
from tiny_models import CONTEXTS, DENSE, MIXTURES, requests, tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.tracing import traced
from sphere_core.editors.gradient.ultraedit import UltraEditEditor, UltraEditSettings
from sphere_core.editors.shaping import Shaping
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.hyperparameters.places import place_of, place_order, places_of, split_place
from sphere_core.locate.supervision import supervise
from sphere_core.methods import EDITORS, resolve_method
from sphere_core.models import EditableModel, load_families
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import DenseUpdate
from sphere_core.regularizers.scope import Scope

IDS = torch.tensor([[5, 9, 20, 33, 41, 7]])
EVERY_DENSE = pytest.mark.parametrize("family", DENSE)
RELEASED = UltraEditSettings(lr=0.01, batch_size=2, variance="unbiased", weighting="tokens", sharing="shape")


def logits(model: EditableModel) -> torch.Tensor:
    with torch.no_grad():
        return model.network(input_ids=IDS, use_cache=False).logits


def other_sites(model: EditableModel, layers: tuple[int, ...] = (0, 1)) -> list[Site]:
    """The sites of some layers that are not down projections."""
    return model.open_sites([place_of(layer, name) for layer in layers for name in model.family.other_sites])


def test_every_dense_family_names_the_matrices_before_its_down_projection() -> None:
    for family in load_families().values():
        named = ({"gate", "up"}, {"gate_up"}, {"up"}) if not family.mixture else (set(),)
        assert set(family.other_sites) in named, family.name


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("name", ["gate", "up", "gate_up"])
def test_a_mixture_has_its_experts_and_no_other_site(family: str, name: str) -> None:
    model = tiny_model(family)
    with pytest.raises(InputError, match=f"a layer of the family '{family}' has no site '{name}'") as raised:
        model.open_sites([place_of(1, name)])
    assert raised.value.remedy == "its sites: down"
    # Also for an editor that can write both experts and other sites.
    resolve_method("ft").check_family(family, mixture=True, where="test")
    given = build_hyperparameters(values("ft", layers=[1], sites={name: [1]}), where="test")
    with pytest.raises(InputError, match=f"there is no site '{name}'"):
        model.outline().check(given, where="test")
    with pytest.raises(InputError, match=f"'ultraedit' writes one matrix of a layer, and a layer of the .* '{family}'"):
        resolve_method("ultraedit").check_family(family, mixture=True, where="test")


@EVERY_DENSE
def test_an_update_at_each_site_is_the_update_by_hand(family: str) -> None:
    model, by_hand = tiny_model(family), tiny_model(family)
    before = logits(model)
    for number, site in enumerate(other_sites(model, (1,))):
        assert (site.d_out % 72, site.d_in, site.transposed) == (0, 32, family == "gpt2")
        update = torch.randn(site.d_out, site.d_in, generator=torch.Generator().manual_seed(number))
        model.add(site, DenseUpdate(update.double()))
        with torch.no_grad():
            by_hand.network.get_submodule(site.module_path).weight += update.T if site.transposed else update
        assert torch.equal(logits(model), logits(by_hand))
    assert not torch.allclose(logits(model), before)
    again = tiny_model(family)
    again.load_weights(model.edited_weights())
    assert again.weights_digest() == model.weights_digest() != tiny_model(family).weights_digest()
    assert torch.equal(logits(again), logits(model))
    model.restore_base()
    assert torch.equal(logits(model), before)


@EVERY_DENSE
def test_inputs_and_output_gradients_of_each_site_make_its_weight_gradient(family: str) -> None:
    """sum_m g_m h_m^T over the predicting positions is what backpropagation says of the canonical weight.

    Positions that predict nothing have a gradient too, through later layers, so the last layer's sites are looked at.
    """
    model = tiny_model(family)
    sites = other_sites(model, (2,))
    rows = traced(model, sites, requests()[:3], "tokens")
    supervision = supervise(model, requests()[:3])
    with model.trainable(sites) as parameters:
        loss = supervision.token_loss(model) / len(supervision.targets)
        slopes = torch.autograd.grad(loss, parameters)
    for site, slope in zip(sites, slopes, strict=True):
        inputs, gradients = rows[site][:, : site.d_in], rows[site][:, site.d_in :]
        expected = site.canonical(slope).double()
        assert torch.allclose(gradients.T @ inputs, expected, atol=1e-5 * float(expected.abs().max()))


@EVERY_DENSE
def test_ultraedit_writes_facts_at_the_sites_before_the_down_projection(family: str) -> None:
    model = tiny_model(family)
    sites, before = other_sites(model), likelihood(model, 2)
    UltraEditEditor(tuple(site.place for site in sites), RELEASED, Shaping([], Scope.AFTER_BATCH)).edit(
        model, requests()[:2], CONTEXTS, EditorState()
    )
    assert likelihood(model, 2) > before
    assert set(model.edited_weights()) == {site.name for site in sites}


def test_sites_of_one_shape_share_their_normalisation_whatever_their_module() -> None:
    model = tiny_model("llama")
    editor_of_all = UltraEditEditor((1, "0.gate", "0.up"), RELEASED, Shaping([], Scope.AFTER_BATCH))
    state = editor_of_all.edit(model, requests()[:2], CONTEXTS, EditorState())
    assert {name.rpartition("/")[0] for name in state.tensors} == {"normalisation/72x32", "normalisation/32x72"}
    counts = [state.part(f"normalisation/{shape}").scalars["count"] for shape in ("72x32", "32x72")]
    assert counts[0] == 2 * counts[1]


def test_regularizers_keep_a_state_for_each_site_of_a_layer() -> None:
    model = tiny_model("llama")
    sites = {"gate": [0], "up": [0, 1], "down": [1]}
    last = run("ultraedit+simie@sites", model, count=3, sites=sites)[-1]
    owners = {name.split("/")[1] for name in last.state.tensors if name.startswith("simie/")}
    assert owners == {"0.gate", "0.up", "1.up", "1"}
    assert len(last.weights) == len(owners)


def test_an_editor_whose_targets_are_in_the_residual_stream_refuses_other_sites() -> None:
    given = build_hyperparameters(values("memit", sites={"up": [0, 1]}), where="test")
    for name in EDITORS:
        holds = name in ("ft", "ft_l", "lora", "ultraedit", "eblora", "truncate", "perturb", "unedited")
        if holds:
            editor(name, tiny_model("llama"), layers=[1], sites={"up": [1]})
            continue
        with pytest.raises(InputError, match=f"'{name}' (writes what a layer adds|is defined at down projections)"):
            resolve_method(name).check(
                given.model_copy(update={"update_norm_lambda": 1.0, "prob_cutoff": -2, "emmet_lambda": 0.1}),
                where="test",
            )


def test_a_site_that_a_family_does_not_have_is_named() -> None:
    with pytest.raises(InputError, match="a layer of the family 'phi3' has no site 'gate'") as raised:
        tiny_model("phi3").open_sites(["1.gate"])
    assert "gate_up, down" in str(raised.value)
    given = build_hyperparameters(values("ultraedit", sites={"gate": [0, 1]}), where="test")
    with pytest.raises(InputError, match="there is no site 'gate'"):
        tiny_model("gpt2").outline().check(given, where="test")


def test_layers_of_sites_are_the_layers_unless_one_is_left_out() -> None:
    given = {name: value for name, value in values("ultraedit").items() if name != "layers"}
    assert build_hyperparameters({**given, "sites": {"gate": [2, 5], "up": [3]}}, where="test").layers == (2, 3, 5)
    with pytest.raises(InputError, match=r"'sites' names the layers \[2\], 'layers' \[0, 1\]"):
        build_hyperparameters({**given, "layers": [0, 1], "sites": {"gate": [2]}}, where="test")
    with pytest.raises(InputError, match="must ascend without repetition"):
        build_hyperparameters({**given, "sites": {"gate": [5, 2]}}, where="test")
    preset = resolve_method("ultraedit").from_preset("llama3-8b")
    assert preset.places[:6] == ("11.gate", "12.gate", "13.gate", "14.gate", "15.gate", "18.up")
    assert resolve_method("ultraedit").from_preset("llama3-8b", {"layers": [3]}).places == (3,)
    assert resolve_method("ultraedit").from_preset("llama3-8b", {"sites": {"up": [3]}}).layers == (3,)


def test_places_are_ordered_as_a_forward_meets_them() -> None:
    places = places_of((), {"down": [2, 10], "up": [2], "gate": [2, 11]})
    assert places == ("2.gate", "2.up", 2, 10, "11.gate")
    assert [split_place(place) for place in places[1:3]] == [(2, "up"), (2, "down")]
    assert sorted(places, key=place_order) == list(places)


def test_sites_enter_the_identity_only_where_they_are_named() -> None:
    plain = build_hyperparameters(values("ultraedit"), where="test")
    assert "sites" not in plain.identity()
    assert plain.places == (0, 1)
    named = build_hyperparameters(values("ultraedit", sites={"up": [0, 1]}), where="test")
    assert named.identity()["sites"] == {"up": [0, 1]}
