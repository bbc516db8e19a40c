"""Balance: the singular values of an update made more equal, at equal norm.

After "Spectral Imbalance Causes Forgetting in Low-Rank Continual Adaptation" (EBLoRA, arXiv 2602.00722), whose adapters
have one singular value by construction. That paper tunes adapters; as a filter of an editor's update this is the
project's own reading of its claim.
"""

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import LowRankUpdate, Update
from sphere_core.numerics.spectrum import singular_subspaces
from sphere_core.regularizers.base import Stateless

__all__ = ["Balance"]

# Directions below this share of the largest singular value are rounding of fp32 keys; raising them would write noise.
_FLOOR = 1e-6


class Balance(Stateless):
    """dW = U S V^T becomes c U S^(1-b) V^T with |dW'|_F = |dW|_F, b the `strength` in [0, 1].

    b = 0 keeps the update, b = 1 gives every direction the singular value |S|_F / sqrt(r). The r directions are those
    above 1e-6 of the largest singular value; what lies below is dropped. Low-rank stays low-rank, by a QR of both
    factors; otherwise by the eigenvectors of the smaller Gram matrix. Float64.
    """

    def __init__(self, *, strength: float) -> None:
        self._strength = strength

    def apply(self, update: Update, write: SiteWrite, state: EditorState) -> Update:
        """Return the balanced update; one that is not finite, or zero, is passed on."""
        if self._strength == 0 or not update.is_finite():
            return update
        left, values, right = _decomposed(update)
        if not len(values) or not float(values[0]) > 0:
            return update
        kept = values > _FLOOR * values[0]
        values = values[kept]
        shaped = (values / values[0]) ** (1 - self._strength)
        shaped = shaped * (torch.linalg.vector_norm(values) / torch.linalg.vector_norm(shaped))
        return LowRankUpdate(left[:, kept] * shaped, right[:, kept])


def _decomposed(update: Update) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return U `[o, r]`, the singular values `[r]`, descending, and V `[d, r]`."""
    if isinstance(update, LowRankUpdate) and update.left.shape[1] < min(len(update.left), len(update.right)):
        left, upper = torch.linalg.qr(update.left)
        right, lower = torch.linalg.qr(update.right)
        inner, values, outer = torch.linalg.svd(upper @ lower.T)
        return left @ inner, values, right @ outer.T
    matrix = update.dense()
    if not bool(matrix.any()):
        return matrix[:, :0], matrix.new_zeros(0), matrix[:0].T
    spaces = singular_subspaces(matrix)
    return spaces.left, spaces.values, spaces.right
