"""Inputs and output gradients of sites over texts: one forward, one backward.

The loss of a row of ids is the sum of the NLL of every token but the first, in nats. g `[o]` is its gradient with
respect to a site's output at one token; the last token of a text predicts nothing, so that its g is zero.
"""

from collections.abc import Mapping, Sequence

import torch

from sphere_core.models.activations import watched_outputs
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site

__all__ = ["inputs_and_gradients"]

# Rows of logits that are held at once: a vocabulary is wider than all else.
_HEAD_ROWS = 1024


def inputs_and_gradients(
    model: EditableModel, sites: Sequence[Site], ids: torch.Tensor, mask: torch.Tensor
) -> Mapping[Site, tuple[torch.Tensor, torch.Tensor]]:
    """Return inputs `[n, d]` and output gradients `[n, o]` of every site at the n tokens that are not padding.

    `ids` and `mask` are `[m, T]`, padded on the right. In the network's dtype; logits and the NLL are fp32.
    """
    with watched_outputs(model.network, sites) as seen, torch.enable_grad():
        hidden = model.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        predicts = mask[:, 1:].bool()
        picked = hidden[:, :-1][predicts.to(hidden.device)]
        targets = ids[:, 1:][predicts]
        slope = _head_gradient(model, picked.detach(), targets)
        slopes = torch.autograd.grad(picked, [seen[site][1] for site in sites], slope)
    counted = mask.bool()
    found = {}
    for site, gradient in zip(sites, slopes, strict=True):
        inputs = seen[site][0]
        chosen = counted.to(inputs.device)
        found[site] = inputs[chosen], gradient[chosen]
    return found


def _head_gradient(model: EditableModel, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the summed NLL of targets `[p]` with respect to final hidden states `[p, h]`."""
    parts = []
    for start in range(0, len(hidden), _HEAD_ROWS):
        part = hidden[start : start + _HEAD_ROWS].requires_grad_(True)
        logs = model.normed_logits(part).log_softmax(dim=-1)
        chosen = targets[start : start + _HEAD_ROWS].to(logs.device)
        loss = -logs.gather(1, chosen[:, None]).sum()
        parts.append(torch.autograd.grad(loss, part)[0])
    return torch.cat(parts) if parts else torch.zeros_like(hidden)
