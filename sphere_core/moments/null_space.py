"""The null space of C0: the directions a corpus hardly uses. Computed once, kept by its thinner side."""

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.numerics.linalg import Subspace, symmetric_eigen

__all__ = ["null_space", "projector_subspace"]

# A projector in fp32 has eigenvalues within this of 0 and 1.
_PROJECTOR_ERROR = 1e-2
_REMEDY = "give AlphaEdit's null_space_project.pt; second moments are imported from npz files"


def null_space(
    moment: torch.Tensor, *, threshold: float | None, share: float | None, device: torch.device | None = None
) -> Subspace:
    """Return the approximate null space of C0 `[d, d]`: eigenvalues below `threshold`, or the smallest `share` of them.

    AlphaEdit (arXiv 2410.02355) takes an absolute threshold on the singular values, which depends on the
    model's scale. By symmetric eigendecomposition in float64, kept as the thinner side; it runs on `device`
    (None: the moment's device), and the basis is on the moment's device. Raises InputError if nothing, or neither
    rule, is given.
    """
    values, vectors = symmetric_eigen(moment if device is None else moment.to(device))
    if threshold is not None:
        small = int((values.abs() < threshold).sum())
    elif share is not None:
        small = round(share * len(values))
    else:
        raise InputError("no rule for the null space", remedy="give nullspace_threshold or nullspace_share")
    if small == 0:
        raise InputError(
            f"no eigenvalue of C0 is below the threshold {threshold}; the smallest is {float(values.min()):.3g}",
            where="hyperparameter 'nullspace_threshold'",
            remedy="raise the threshold: with an empty null space nothing can be written",
        )
    if 2 * small <= len(values):
        return Subspace(vectors[:, :small].to(moment.device), complement=False)
    return Subspace(vectors[:, small:].to(moment.device), complement=True)


def projector_subspace(projector: torch.Tensor, *, where: str) -> Subspace:
    """Return the subspace of a dense projector P `[d, d]`, as its thinner side in float64.

    AlphaEdit's released code stores P = U U^T of the null space as such a matrix. Raises InputError if it is not an
    orthogonal projector.
    """
    if projector.ndim != 2 or projector.shape[0] != projector.shape[1]:
        raise InputError(f"a projector is square, this is {tuple(projector.shape)}", where=where, remedy=_REMEDY)
    if not bool(torch.isfinite(projector).all()):
        raise InputError("the projector is not finite", where=where, remedy=_REMEDY)
    if float((projector - projector.T).abs().max()) > _PROJECTOR_ERROR:
        raise InputError("the projector is not symmetric", where=where, remedy=_REMEDY)
    values, vectors = symmetric_eigen(projector)
    if float(torch.minimum(values.abs(), (values - 1).abs()).max()) > _PROJECTOR_ERROR:
        raise InputError(
            "not a projector: its eigenvalues are not all 0 or 1",
            where=where,
            remedy=_REMEDY,
        )
    outside = int((values < 0.5).sum())
    if outside == len(values):
        raise InputError("the projector is empty: nothing could be written", where=where, remedy=_REMEDY)
    if 2 * outside <= len(values):
        return Subspace(vectors[:, :outside], complement=True)
    return Subspace(vectors[:, outside:], complement=False)
