"""Sites, writes, and random matrices of small known shapes, in float64."""

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models import Site
from sphere_core.models.site_write import SiteWrite

__all__ = ["NOTHING", "OUT", "D", "moment", "normal", "plain", "site", "write"]

OUT, D = 6, 11
NOTHING = EditorState()


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(seed: int, width: int = D) -> torch.Tensor:
    samples = normal(seed, width, 4 * width)
    return samples @ samples.T / samples.shape[1]


def site(rows: int = OUT, columns: int = D) -> Site:
    return Site(0, "layer", rows, columns, transposed=False)


def write(keys: torch.Tensor, residuals: torch.Tensor, weight: torch.Tensor, base: torch.Tensor) -> SiteWrite:
    return SiteWrite(site(), keys, residuals, weight, base)


def plain(weight: torch.Tensor) -> SiteWrite:
    return SiteWrite(site(*weight.shape), normal(0, weight.shape[1], 0), normal(0, weight.shape[0], 0), weight, weight)
