"""Keys and residuals of one batch: one incremental pass, against a forward of the whole model for everything."""

from collections.abc import Callable, Sequence

import torch
from transformers import GPT2Config

from benchmarks.models import random_gpt2, random_requests
from benchmarks.rows import Row, comparison
from benchmarks.timing import interleaved, relative_difference
from sphere_core.locate.batch import BatchWalk, LocatedBatch, locate
from sphere_core.locate.prompts import SubjectPrompt, pad_right
from sphere_core.models import EditableModel, Site
from sphere_core.models.layer_calls import hidden_states

__all__ = ["gpt2_keys", "measure", "one_pass", "plain_keys", "plain_outputs", "whole_forwards"]

ROWS_PER_FORWARD = 128
TOLERANCE = 1e-4

# Keys `[d, n]` of every site, and the last layer's outputs `[h, n]` seen before each write.
Seen = tuple[list[torch.Tensor], list[torch.Tensor]]


def whole_forwards(
    model: EditableModel, batch: LocatedBatch, sites: Sequence[Site], weights: Sequence[torch.Tensor]
) -> Seen:
    """Read keys and outputs as published: for each site a forward of all contexts for its keys and one of the bare
    prompts for the residual; and after the last write the keys of all sites again, for the history."""
    outputs = []
    for site, weight in zip(sites, weights, strict=True):
        plain_keys(model, batch, site)
        outputs.append(plain_outputs(model, batch, sites[-1].layer))
        model.set_weight(site, weight)
    return [plain_keys(model, batch, site) for site in sites], outputs


def one_pass(model: EditableModel, batch: LocatedBatch, sites: Sequence[Site], weights: Sequence[torch.Tensor]) -> Seen:
    """Read the same by one walk; keys for the history are the keys that were read."""
    keys, outputs = [], []
    walk = BatchWalk(model, batch, sites)
    for site, weight in zip(sites, weights, strict=True):
        keys.append(walk.keys(site))
        outputs.append(walk.outputs())
        model.set_weight(site, weight)
    return keys, outputs


def gpt2_keys(config: GPT2Config, layers: Sequence[int], *, count: int, repeats: int) -> Row:
    """Return the row on a randomly initialised GPT-2."""
    model = random_gpt2(config)
    requests, contexts = random_requests(model, count)
    batch = locate(model, requests, contexts)
    sites = model.open_sites(layers)
    generator = torch.Generator().manual_seed(1)
    weights = []
    for site in sites:
        base = model.base_weight(site)
        weights.append(base + 0.1 * base.std() * torch.randn(base.shape, generator=generator))

    def from_base(read: Callable[..., Seen]) -> Seen:
        model.restore_base()
        return read(model, batch, sites, weights)

    found = interleaved(lambda: from_base(whole_forwards), lambda: from_base(one_pass), repeats=repeats)
    pairs = [
        (ours, plain) for part in range(2) for ours, plain in zip(found.ours[part], found.plain[part], strict=True)
    ]
    return comparison(
        f"keys, GPT-2 of {model.network.num_parameters() / 1e6:.0f} M, layers {layers[0]}-{layers[-1]} of "
        f"{config.n_layer}",
        f"a batch of {count}, {batch.context_count} contexts; fp32; keys, residuals and history keys",
        found.seconds,
        wall=found.wall,
        required=6,
        difference=max(relative_difference(ours, plain) for ours, plain in pairs),
        tolerance=TOLERANCE,
    )


def plain_keys(model: EditableModel, batch: LocatedBatch, site: Site) -> torch.Tensor:
    """Return a site's keys `[d, n]` by forwards of the whole model over all contexts."""
    module = model.network.get_submodule(site.module_path)
    per_request = _seen(model, batch.prompts, module, inputs=True).view(len(batch.requests), batch.context_count, -1)
    means, start = [], 0
    for group in batch.contexts:
        means.append(per_request[:, start : start + len(group)].mean(dim=1))
        start += len(group)
    return torch.stack(means).mean(dim=0).T


def plain_outputs(model: EditableModel, batch: LocatedBatch, layer: int) -> torch.Tensor:
    """Return a layer's outputs `[h, n]` by forwards of the whole model over the bare prompts."""
    return _seen(model, batch.bare, model.layers[layer], inputs=False).T


def _seen(
    model: EditableModel, prompts: Sequence[SubjectPrompt], module: torch.nn.Module, *, inputs: bool
) -> torch.Tensor:
    """Return a module's input or output at each subject's last token, by forwards of the whole model."""
    picked = []
    for start in range(0, len(prompts), ROWS_PER_FORWARD):
        chosen = prompts[start : start + ROWS_PER_FORWARD]
        ids, mask = pad_right([prompt.ids for prompt in chosen], fill=0, device=model.device)
        kept: list[torch.Tensor] = []
        handle = module.register_forward_hook(
            lambda _, args, out, kept=kept: kept.append(args[0] if inputs else hidden_states(out))
        )
        try:
            with torch.no_grad():
                model.network(input_ids=ids, attention_mask=mask, use_cache=False)
        finally:
            handle.remove()
        picked.append(kept[0][torch.arange(len(chosen)), torch.tensor([prompt.subject_last for prompt in chosen])])
    return torch.cat(picked)


def measure(threads: int) -> list[Row]:
    """Return the rows of this benchmark."""
    return [gpt2_keys(GPT2Config(), (3, 4, 5, 6, 7), count=10, repeats=3)]
