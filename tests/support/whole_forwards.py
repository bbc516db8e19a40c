"""Keys and outputs the slow way: one prompt at a time through the whole model."""

import torch

from sphere_core.locate.batch import LocatedBatch
from sphere_core.models import EditableModel, Site


def keys_of_whole_forwards(model: EditableModel, batch: LocatedBatch, site: Site) -> torch.Tensor:
    """One prompt at a time through the whole model; mean inside each group, then of the groups."""
    module = model.network.get_submodule(site.module_path)
    if site.experts:
        return gated_keys_of_whole_forwards(model, batch, site)
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


def gated_keys_of_whole_forwards(model: EditableModel, batch: LocatedBatch, site: Site) -> torch.Tensor:
    """The same for a mixture, from what enters its block: the router and every expert worked out by hand, token by
    token."""
    block = model.network.get_submodule(site.module_path.rpartition(".")[0])
    columns = []
    for start in range(0, len(batch.prompts), batch.context_count):
        keys = []
        for prompt in batch.prompts[start : start + batch.context_count]:
            seen: list[torch.Tensor] = []
            handle = block.register_forward_pre_hook(lambda _, args, keep=seen: keep.append(args[0]))
            with torch.no_grad():
                model.network(input_ids=torch.tensor([prompt.ids]), use_cache=False)
            handle.remove()
            keys.append(gated_key(block, seen[0][0, prompt.subject_last]))
        groups, rest = [], keys
        for group in batch.contexts:
            groups.append(torch.stack(rest[: len(group)]).mean(dim=0))
            rest = rest[len(group) :]
        columns.append(torch.stack(groups).mean(dim=0))
    return torch.stack(columns, dim=1)


@torch.no_grad()
def gated_key(block: torch.nn.Module, token: torch.Tensor) -> torch.Tensor:
    """The gated key of one token `[h]`: for every expert, the router's share times the input of its down projection."""
    chosen = (block.gate.weight @ token).softmax(dim=0)
    shares, experts = chosen.topk(block.gate.top_k)
    if getattr(block.gate, "norm_topk_prob", True):
        shares = shares / shares.sum()
    parts = []
    for expert in range(len(block.gate.weight)):
        gate, up = (block.experts.gate_up_proj[expert] @ token).chunk(2)
        share = shares[experts == expert].sum()
        parts.append(share * torch.nn.functional.silu(gate) * up)
    return torch.cat(parts)


def outputs_of_whole_forwards(model: EditableModel, batch: LocatedBatch, layer: int) -> torch.Tensor:
    columns = []
    for prompt in batch.bare:
        with torch.no_grad():
            states = model.network(
                input_ids=torch.tensor([prompt.ids]), use_cache=False, output_hidden_states=True
            ).hidden_states
        columns.append(states[layer + 1][0, prompt.subject_last])
    return torch.stack(columns, dim=1)
