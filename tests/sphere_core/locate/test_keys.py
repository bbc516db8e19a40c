"""The incremental pass through the edited layers against whole forwards of whole prompts."""

import pytest
import torch
from tiny_models import CONTEXTS, requests, tiny_model
from whole_forwards import keys_of_whole_forwards, outputs_of_whole_forwards

from sphere_core.locate import batch as batch_module
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.numerics.linalg import DenseUpdate


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("layers", [(0, 1), (1, 3), (2,)])
@pytest.mark.parametrize("forward_tokens", [16384, 40])
def test_one_pass_sees_every_write(
    monkeypatch: pytest.MonkeyPatch, family: str, layers: tuple[int, ...], forward_tokens: int
) -> None:
    monkeypatch.setattr(batch_module, "_FORWARD_TOKENS", forward_tokens)
    model = tiny_model(family, layers=5)
    sites = model.open_sites(layers)
    batch = locate(model, requests(), CONTEXTS)
    walk = BatchWalk(model, batch, sites)
    generator = torch.Generator().manual_seed(3)
    for site in sites:
        keys, outputs = walk.keys(site), walk.outputs()
        assert torch.allclose(keys, keys_of_whole_forwards(model, batch, site), atol=1e-5)
        assert torch.allclose(outputs, outputs_of_whole_forwards(model, batch, layers[-1]), atol=1e-5)
        change = torch.randn(site.d_out, site.d_in, generator=generator, dtype=torch.float64)
        model.add(site, DenseUpdate(0.3 * change))
    assert torch.allclose(walk.outputs(), outputs_of_whole_forwards(model, batch, layers[-1]), atol=1e-5)
    # Keys of a site do not depend on the site's own weight: after the loop they are what they were.
    assert torch.equal(walk.keys(sites[-1]), keys)
