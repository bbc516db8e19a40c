"""What an edited weight retrieves for the key of an earlier edit, read off the factor that the solver carries.

Symbols: M = sqrt(h) H `[d, N]` the keys of all edits so far, Pi the prior's precision, R their residuals `[o, N]`, L
the lower Cholesky factor of I + M^T Pi^-1 M.
The least-squares step over all of them gives (W + D) k = v + R w for a key k, w = M^T (Pi + M M^T)^-1 k up to the scale
sqrt(h): an edit's answer is a mean of all residuals with the weights w, and the memory is a table of facts as far as w
has one large entry (NeuralDB, arXiv 2507.18028, reads MEMIT and AlphaEdit this way). For the keys of the edits
themselves, by Woodbury, the columns of

    M^T (Pi + M M^T)^-1 M = I - (I + M^T Pi^-1 M)^-1 = I - (L L^T)^-1.
"""

from collections.abc import Mapping

import torch

from sphere_core.numerics.tensor_file import LOWER

__all__ = ["factor_at", "retrieval_sharpness"]


def factor_at(state: Mapping[str, torch.Tensor], site: str) -> torch.Tensor | None:
    """Return the factor L `[N, N]` that a site's rule keeps, from a checkpoint's state; None if it keeps none.

    Wrappers keep an editor's state under a name of their own, in front.
    """
    name = f"rule/{site}/factor{LOWER}"
    return next((tensor for key, tensor in state.items() if key == name or key.endswith(f"/{name}")), None)


def retrieval_sharpness(factor: torch.Tensor) -> torch.Tensor:
    """Return max_i |w_i| / sum_i |w_i| for the key of each edit, `[N]` float64: 1 where only one residual answers.

    `factor` is L `[N, N]` float64. A key that retrieves nothing at all has nan.
    """
    weights = torch.eye(len(factor), dtype=torch.float64, device=factor.device) - torch.cholesky_inverse(
        factor.double()
    )
    sizes = weights.abs()
    found: torch.Tensor = sizes.amax(dim=0) / sizes.sum(dim=0)
    return found
