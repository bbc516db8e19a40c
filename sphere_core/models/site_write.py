"""What is to be written at one site, as editors and regularizers see it."""

from dataclasses import dataclass

import torch

from sphere_core.models.sites import Site

__all__ = ["SiteWrite"]


@dataclass(frozen=True)
class SiteWrite:
    """One batch at one site: keys K `[d, n]`, residuals R `[o, n]`, and the weights `[o, d]`, all fp32.

    `weight` is what the update will be added to, `base` the unedited weight. Gradient editors have no residuals:
    theirs are empty, `[o, 0]`, and so are their keys.
    """

    site: Site
    keys: torch.Tensor
    residuals: torch.Tensor
    weight: torch.Tensor
    base: torch.Tensor
