"""A batch of AlphaEdit with SPHERE as published: a plain reading of the released loop, a whole edit of the weights."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.keys import plain_keys, plain_outputs
from benchmarks.projections import dense_sphere
from benchmarks.steps import alphaedit_dense
from benchmarks.targets import one_target
from sphere_core.locate.batch import locate
from sphere_core.locate.targets import TargetSettings
from sphere_core.locate.templates import Contexts
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["PlainEdit"]


@dataclass
class PlainEdit:
    """The released loop over sites, with dense fp32 projectors and key sums `[d, d]` by layer.

    `per_edit` and `per_batch` are processor seconds of the last batch: what grows with its requests (targets, keys,
    residuals, keys of the history), and what does not (solve, projection, write).
    """

    settings: TargetSettings
    projectors: dict[int, torch.Tensor]
    caches: dict[int, torch.Tensor] = field(default_factory=dict)
    targets: float = 0.0
    per_edit: float = 0.0
    per_batch: float = 0.0

    def edit(self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts) -> None:
        """Write a batch: a target per request by forwards of the whole model; then for every site its keys and the
        residual from whole forwards, an LU of the `[d, d]` system and the projection by a dense matrix; at the end the
        keys of all sites once more, for the history."""
        start = time.process_time()
        self.per_batch = 0.0
        sites, batch = model.open_sites(list(self.projectors)), locate(model, requests, contexts)
        wanted = torch.stack([one_target(model, batch, index, self.settings) for index in range(len(requests))], dim=1)
        self.targets = time.process_time() - start
        for place, site in enumerate(sites):
            keys = plain_keys(model, batch, site).float()
            missing = wanted - plain_outputs(model, batch, sites[-1].layer)
            begun = time.process_time()
            projector = self.projectors[site.layer]
            cache = self.caches.get(site.layer, torch.zeros_like(projector))
            change, _ = alphaedit_dense(projector, cache, keys, missing.float() / (len(sites) - place))
            weight = model.weight(site)
            model.set_weight(site, weight + dense_sphere(weight, change))
            self.per_batch += time.process_time() - begun
        for site in sites:
            keys = plain_keys(model, batch, site).float()
            self.caches[site.layer] = self.caches.get(site.layer, 0) + keys @ keys.T
        self.per_edit = (time.process_time() - start - self.per_batch) / len(requests)
        self.targets /= len(requests)
