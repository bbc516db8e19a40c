"""PRUNE (arXiv 2405.16821): damp singular values of the accumulated change that exceed the unedited weight's
largest."""

import torch

from sphere_core.numerics.linalg import symmetric_eigen
from sphere_core.numerics.placement import all_finite
from sphere_core.numerics.spectrum import gram_of_rows, spectral_norm

__all__ = ["Prune"]


class Prune:
    """For s > s_0: s' = ln s - ln s_0 + s_0, s the singular values of W_t - W_0, s_0 the largest of W_0.

    A read-out: scores use W_0 plus the damped change; editing continues from the undamped weights. Natural log,
    as in the code released with SPHERE; AlphaEdit's release adds the damped change to the already edited weight, which
    counts it twice. Only the singular values above s_0 are computed with their vectors, from the smaller Gram matrix;
    nothing is decomposed when the Frobenius norm, or a Cholesky factor, shows that none exceeds s_0. A change that is
    not finite is passed on.
    """

    def __init__(self) -> None:
        self._largest: dict[str, float] = {}

    def view(self, change: torch.Tensor, base: torch.Tensor, site_name: str) -> torch.Tensor:
        """Return the damped change `[o, d]`, float64."""
        wide = change.double()
        if not all_finite(wide):
            return wide
        if site_name not in self._largest:
            self._largest[site_name] = spectral_norm(base)
        limit = self._largest[site_name]
        # |.|_2 <= |.|_F: a cheap certificate that no singular value exceeds the limit.
        if float(torch.linalg.matrix_norm(wide)) <= limit:
            return wide
        tall = wide.shape[0] > wide.shape[1]
        gram = gram_of_rows(wide.T if tall else wide)
        # limit^2 I - G has a Cholesky factor exactly when no singular value reaches the limit.
        margin = -gram
        margin.diagonal().add_(limit**2)
        if not int(torch.linalg.cholesky_ex(margin)[1]):
            return wide
        squares, vectors = symmetric_eigen(gram)
        above = squares > limit**2
        values, directions = squares[above].sqrt(), vectors[:, above]
        shrink = (values.log() - torch.log(values.new_tensor(limit)) + limit) / values - 1
        # multi_dot takes the cheaper order: few directions go to the change, many are multiplied out first.
        factors = [wide, directions * shrink, directions.T] if tall else [directions * shrink, directions.T, wide]
        damping: torch.Tensor = torch.linalg.multi_dot(factors)
        return wide + damping
