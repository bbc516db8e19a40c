"""The incremental pass through the edited layers against whole forwards of whole prompts."""

import pytest
import torch
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.locate import batch as batch_module
from sphere_core.locate.batch import BatchWalk, LocatedBatch, locate
from sphere_core.models import EditableModel, Site
from sphere_core.numerics.linalg import DenseUpdate


def keys_of_whole_forwards(model: EditableModel, batch: LocatedBatch, site: Site) -> torch.Tensor:
    """One prompt at a time through the whole model; mean inside each group, then of the groups."""
    module = model.network.get_submodule(site.module_path)
    columns = []
    for start in range(0, len(batch.prompts), batch.context_count):
        seen: list[torch.Tensor] = []
        handle = module.register_forward_pre_hook(lambda _, args, keep=seen: keep.append(args[0]))
        for prompt in batch.prompts[start : start + batch.context_count]:
            with torch.no_grad():
                model.network(input_ids=torch.tensor([prompt.ids]), use_cache=False)
            seen[-1] = seen[-1][0, prompt.subject_last]
        handle.remove()
        groups, rest = [], seen
        for group in batch.contexts:
            groups.append(torch.stack(rest[: len(group)]).mean(dim=0))
            rest = rest[len(group) :]
        columns.append(torch.stack(groups).mean(dim=0))
    return torch.stack(columns, dim=1)


def outputs_of_whole_forwards(model: EditableModel, batch: LocatedBatch, layer: int) -> torch.Tensor:
    columns = []
    for prompt in batch.bare:
        with torch.no_grad():
            states = model.network(
                input_ids=torch.tensor([prompt.ids]), use_cache=False, output_hidden_states=True
            ).hidden_states
        columns.append(states[layer + 1][0, prompt.subject_last])
    return torch.stack(columns, dim=1)


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
