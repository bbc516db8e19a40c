"""RECT (arXiv 2401.04700): keep only the entries of an update that change their weight the most, relatively."""

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import DenseUpdate, Update
from sphere_core.regularizers.base import Stateless

__all__ = ["Rect"]

# Added to the signed weight, as released: a weight of -1e-8 would divide by zero.
_EPSILON = 1e-8


class Rect(Stateless):
    """Keep the `keep` share of entries of dW with the largest |dW / (W + 1e-8)|; zero the rest.

    An entry stays when its ratio is at least the k-th smallest, k = int((1 - keep) numel), as in the released code;
    ties at the threshold all stay. W is the weight the update is added to. The result is dense.
    """

    def __init__(self, *, keep: float) -> None:
        self._keep = keep

    def apply(self, update: Update, write: SiteWrite, state: EditorState) -> Update:
        """Return the masked update; one that is not finite is passed on."""
        if not update.is_finite():
            return update
        matrix = update.dense()
        ratios = (matrix / (write.weight.to(matrix) + _EPSILON)).abs()
        # round() guards against 0.6 * 100 = 59.999...
        rank = int(round(ratios.numel() * (1 - self._keep), 6))
        if rank < 1:
            return DenseUpdate(matrix)
        threshold = ratios.reshape(-1).kthvalue(rank).values
        return DenseUpdate(torch.where(ratios >= threshold, matrix, 0.0))
