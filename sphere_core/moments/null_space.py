"""The null space of C0: the directions a corpus hardly uses. Computed once, kept by its thinner side."""

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.numerics.linalg import BlockSubspace, Subspace, symmetric_eigen

__all__ = ["expert_null_spaces", "null_space", "projector_subspace"]

# A projector in fp32 has eigenvalues within this of 0 and 1.
_PROJECTOR_ERROR = 1e-2
_REMEDY = "give AlphaEdit's null_space_project.pt; second moments are imported from npz files"


class EmptyNullSpace(InputError):
    """A second moment has no eigenvalue below the threshold."""


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
        raise EmptyNullSpace(
            f"no eigenvalue of C0 is below the threshold {threshold}; the smallest is {float(values.min()):.3g}",
            where="hyperparameter 'nullspace_threshold'",
            remedy="raise the threshold: with an empty null space nothing can be written",
        )
    if 2 * small <= len(values):
        return Subspace(vectors[:, :small].to(moment.device), complement=False)
    return Subspace(vectors[:, small:].to(moment.device), complement=True)


def expert_null_spaces(
    moments: torch.Tensor,
    routed: torch.Tensor,
    *,
    threshold: float | None,
    share: float | None,
    unseen: str,
    device: torch.device | None = None,
) -> BlockSubspace:
    """Return the null space of each expert of a mixture from C0 `[E, f, f]`, as `null_space` does (MoEEdit, arXiv
    2602.10965: P_e of the inputs of expert e over the tokens routed to it).

    `routed` `[E]` are the tokens that reached each. An expert whose moments leave no direction below the threshold is
    never written. Of one that no token reached nothing is known: `frozen` never writes it (MoEEdit's release, which
    takes the identity for its moment), `free` writes it anywhere. Raises InputError if no expert can be written.
    """
    blocks = []
    for moment, tokens in zip(moments, routed.tolist(), strict=True):
        if not tokens:
            blocks.append(Subspace(moment.new_zeros(len(moment), 0, dtype=torch.float64), complement=unseen == "free"))
            continue
        try:
            blocks.append(null_space(moment, threshold=threshold, share=share, device=device))
        except EmptyNullSpace:
            blocks.append(Subspace(moment.new_zeros(len(moment), 0, dtype=torch.float64), complement=False))
    space = BlockSubspace(tuple(blocks))
    if not space.dimension:
        raise EmptyNullSpace(
            f"no expert has an eigenvalue of C0 below the threshold {threshold}",
            where="hyperparameter 'nullspace_threshold'",
            remedy="raise the threshold: with empty null spaces nothing can be written",
        )
    return space


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
