"""Inputs and output gradients of sites at the positions that predict a target token: one forward, one backward."""

from collections.abc import Sequence
from typing import Literal

import torch

from sphere_core.locate.supervision import supervise
from sphere_core.models.activations import watched_outputs
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site
from sphere_core.requests import EditRequest

__all__ = ["Weighting", "traced"]

Weighting = Literal["tokens", "requests", "sum"]


def traced(
    model: EditableModel, sites: Sequence[Site], requests: Sequence[EditRequest], weighting: Weighting
) -> dict[Site, torch.Tensor]:
    """Return [h, g] `[m, d + o]` of each site, a row for each target token of the requests, float64.

    h `[d]` is the site's input where the token is predicted, g `[o]` the gradient of the loss with respect to its
    output there. The loss is the mean NLL over all target tokens (`tokens`), their sum (`sum`), or the sum over
    requests of their means (`requests`), in which a request's gradient does not depend on its company.
    """
    supervision = supervise(model, requests)
    with watched_outputs(model.network, sites) as seen:
        if weighting == "requests":
            loss = supervision.loss(model) * len(requests)
        else:
            loss = supervision.token_loss(model)
            loss = loss / len(supervision.targets) if weighting == "tokens" else loss
        slopes = torch.autograd.grad(loss, [seen[site][1] for site in sites])
    found = {}
    for site, slope in zip(sites, slopes, strict=True):
        values = seen[site][0]
        rows, positions = supervision.rows.to(values.device), supervision.positions.to(values.device)
        found[site] = torch.cat([values[rows, positions].double(), slope[rows, positions].double()], dim=1)
    return found
