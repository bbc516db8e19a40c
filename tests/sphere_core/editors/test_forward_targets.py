"""Forward replay (`targets: forward`) against whole forwards with a hook, and dense systems solved anew."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from method_parts import VALUES, moments, values
from tiny_models import CONTEXTS, requests, tiny_model
from whole_forwards import keys_of_whole_forwards, outputs_of_whole_forwards

from sphere_core.checkpoints import EditorState
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.locate.batch import LocatedBatch, locate
from sphere_core.locate.layer_targets import layer_targets
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.null_space import null_space
from sphere_core.moments.record import SecondMoments


@contextmanager
def given_output(model: EditableModel, layer: int, position: int, value: torch.Tensor) -> Iterator[None]:
    """Puts a vector at one position of a layer's output in every forward."""

    def put(_module: object, _args: object, output: object) -> object:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()  # type: ignore[union-attr]
        hidden[0, position] = value
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = model.layers[layer].register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def replayed_one_by_one(
    model: EditableModel, batch: LocatedBatch, first: int, found: torch.Tensor, layers: tuple[int, ...]
) -> dict[int, torch.Tensor]:
    columns: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for index, prompt in enumerate(batch.bare):
        with given_output(model, first, prompt.subject_last, found[:, index]), torch.no_grad():
            states = model.network(
                input_ids=torch.tensor([prompt.ids]), use_cache=False, output_hidden_states=True
            ).hidden_states
        for layer in layers:
            columns[layer].append(states[layer + 1][0, prompt.subject_last])
    # The recorded states are those from before the hook at the layer itself.
    return {**{layer: torch.stack(parts, dim=1) for layer, parts in columns.items()}, first: found}


# Four layers: the states that `output_hidden_states` gives for the last one are behind the final norm.
@pytest.mark.parametrize("family", ["llama", "gpt2", "gptj", "gemma2"])
def test_every_layers_target_is_what_one_whole_forward_gives(family: str) -> None:
    model = tiny_model(family, layers=4)
    layers = (0, 2)
    sites = model.open_sites(layers)
    batch = locate(model, requests(), CONTEXTS)
    generator = torch.Generator().manual_seed(3)
    found = outputs_of_whole_forwards(model, batch, 0) + torch.randn(32, 5, generator=generator)
    targets = layer_targets(model, batch, sites, found, forward=True)
    slow = replayed_one_by_one(model, batch, 0, found, layers)
    assert torch.equal(targets.by_layer[0], found)
    assert torch.allclose(targets.by_layer[2], slow[2], atol=2e-4 * float(slow[2].abs().max()))
    # The replay moved the later layer, and left the model as it was.
    assert float((targets.last - outputs_of_whole_forwards(model, batch, 2)).norm()) > 0.1


@pytest.mark.parametrize("method", ["memit", "alphaedit"])
def test_a_batch_against_the_loop_written_out(method: str) -> None:
    model, layers = tiny_model("llama", layers=4), (0, 1, 2)
    changes = {"layers": list(layers), "targets": "forward", "nullspace_share": 0.6}
    hyperparameters = build_hyperparameters(values(method, **changes), where="test")
    sites = model.open_sites(layers)
    generator, seconds = torch.Generator().manual_seed(9), {}
    for site in sites:
        samples = torch.randn(site.d_in, 4 * site.d_in, generator=generator, dtype=torch.float64)
        seconds[site.layer] = samples @ samples.T / samples.shape[1]
    batch = locate(model, requests(), CONTEXTS)
    settings = TargetSettings.of(hyperparameters)
    assert settings.layer == 0
    found = optimise_targets(model, batch, settings).values
    goals = replayed_one_by_one(model, batch, 0, found, layers)
    for site in sites:
        keys = keys_of_whole_forwards(model, batch, site).double()
        missing = goals[site.layer].double() - outputs_of_whole_forwards(model, batch, site.layer).double()
        if method == "memit":
            system = VALUES["mom2_update_weight"] * seconds[site.layer] + keys @ keys.T
            change = missing @ torch.linalg.solve(system, keys).T
        else:
            basis = null_space(seconds[site.layer], threshold=None, share=0.6)
            projector = basis.project(torch.eye(site.d_in, dtype=torch.float64))
            system = projector @ keys @ keys.T + VALUES["L2"] * torch.eye(site.d_in, dtype=torch.float64)
            change = missing @ keys.T @ projector @ torch.linalg.inv(system).T
        model.set_weight(site, (model.weight(site).double() + change).float())
    slow = {site.layer: model.weight(site).clone() for site in sites}
    fresh = tiny_model("llama", layers=4)
    built = resolve_method(method).build(hyperparameters, SecondMoments(seconds, 1, {}))
    built.edit(fresh, requests(), CONTEXTS, EditorState())
    for site in fresh.open_sites(layers):
        moved = (slow[site.layer] - fresh.base_weight(site)).norm()
        assert float((fresh.weight(site) - slow[site.layer]).norm() / moved) < 2e-3


def test_spread_written_out_is_the_default_and_enters_no_identity() -> None:
    left_out = build_hyperparameters(values("memit"), where="test")
    spread = build_hyperparameters(values("memit", targets="spread"), where="test")
    forward = build_hyperparameters(values("memit", targets="forward"), where="test")
    assert left_out.identity() == spread.identity()
    assert forward.identity() == {**left_out.identity(), "targets": "forward"}


def test_one_edited_layer_has_the_same_target_either_way() -> None:
    weights = []
    for kind in ("spread", "forward"):
        model = tiny_model("llama")
        hyperparameters = build_hyperparameters(values("memit", layers=[1], targets=kind), where="test")
        resolve_method("memit").build(hyperparameters, moments(model)).edit(model, requests(), CONTEXTS, EditorState())
        weights.append(model.weight(model.sites[0]))
    assert torch.equal(*weights)
