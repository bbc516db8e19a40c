"""ROME and R-ROME against their closed form."""

import pytest
import torch
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.editors.closed_form.rome import RomeEditor
from sphere_core.editors.shaping import Shaping
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.regularizers.scope import Scope
from sphere_core.solver import MomentPrior

SETTINGS = TargetSettings(
    layer=1,
    v_lr=0.2,
    v_num_grad_steps=6,
    v_weight_decay=0.1,
    clamp_norm_factor=1.5,
    kl_factor=0.0625,
    v_stop_loss=0.0,
    requests_per_pass=8,
    most_probable_steps=0,
)
PLAIN = Shaping([], Scope.AFTER_BATCH)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("same_key", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_rome_meets_its_equality(family: str, same_key: bool, weighted: bool) -> None:
    model = tiny_model(family)
    (site,) = model.open_sites([1])
    samples = torch.randn(72, 300, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    second = samples @ samples.T / 300
    request = requests()[0]
    walk = BatchWalk(model, locate(model, [request], CONTEXTS), [site])
    mean_key, bare_key, before = walk.mean_inputs(site), walk.bare_inputs(site), walk.site_outputs(site)
    prior = MomentPrior(second, weight=1.0, ridge=0.0, width=72) if weighted else None
    start = model.weight(site)
    delta = optimise_targets(model, locate(model, [request], CONTEXTS), SETTINGS, anchors=before).deltas
    RomeEditor(SETTINGS, 1, prior, same_key, PLAIN).edit(model, [request], CONTEXTS, EditorState())
    change = model.weight(site).double() - start.double()
    key = mean_key if same_key else bare_key
    # The output at the key is the target's: v - W k is what the update adds there.
    wanted = delta.double()
    if same_key:
        wanted = wanted + start.double() @ (bare_key - mean_key).double()
    assert torch.allclose(change @ key.double(), wanted, atol=1e-4)
    # Rank one, along C0^-1 k_mean or k_mean.
    direction = torch.linalg.solve(second, mean_key.double()) if weighted else mean_key.double()
    direction = direction / direction.norm()
    assert torch.allclose(change, (change @ direction) @ direction.T, atol=1e-5)


def test_the_key_of_rome_is_the_mean_over_all_contexts_alike() -> None:
    model = tiny_model("llama")
    (site,) = model.open_sites([1])
    one, two = requests()[:2]
    flat = BatchWalk(model, locate(model, [one, two], CONTEXTS), [site]).mean_inputs(site)
    singles = [
        BatchWalk(model, locate(model, [one, two], (("{}",), (context,))), [site])
        for context in ("The. {}", "Because it was so. {}")
    ]
    bare = singles[0].bare_inputs(site)
    # From two templates the key is (bare + context) / 2.
    contexts = [2 * single.keys(site) - bare for single in singles]
    assert torch.allclose(flat, (bare + contexts[0] + contexts[1]) / 3, atol=1e-5)
