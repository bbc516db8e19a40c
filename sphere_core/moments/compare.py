"""Compare two second moments of one site, and check a file against its own digests."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.moments.record import SecondMoments, require_second_moment
from sphere_core.numerics.linalg import symmetric_eigen
from sphere_core.numerics.tensor_digest import tensors_digest

__all__ = ["Comparison", "compare_moments", "faults"]

# A sum of k k^T is positive semidefinite; rounding may leave eigenvalues this far below zero, of the mean one.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Comparison:
    """One site in two statistics A and B.

    `relative` is |A - B| / |A| (Frobenius), `spectra` the same of the ascending eigenvalues. `outside` are the
    dimensions outside each null space at `threshold`; `overlap` is the mean squared cosine between the two outsides,
    |U_A^T U_B|_F^2 divided by the smaller dimension: 1 where one holds the other.
    """

    layer: int
    relative: float
    spectra: float
    outside: tuple[int, int]
    overlap: float


def compare_moments(first: SecondMoments, second: SecondMoments, layer: int, *, threshold: float) -> Comparison:
    """Compare C0 of one layer; both are decomposed. Raises InputError if one has no C0 of this layer, or if widths
    differ."""
    pair = [moments.by_layer.get(layer) for moments in (first, second)]
    a, b = pair
    if a is None or b is None:
        raise InputError(f"one of the two has no second moment of layer {layer}", where="sphere moments compare")
    if a.shape != b.shape:
        raise InputError(
            f"layer {layer} is {tuple(a.shape)} in one and {tuple(b.shape)} in the other: two different models",
            where="sphere moments compare",
        )
    (values_a, vectors_a), (values_b, vectors_b) = symmetric_eigen(a), symmetric_eigen(b)
    kept_a, kept_b = vectors_a[:, values_a >= threshold], vectors_b[:, values_b >= threshold]
    smaller = min(kept_a.shape[1], kept_b.shape[1])
    shared = float((kept_a.T @ kept_b).square().sum()) / smaller if smaller else float("nan")
    return Comparison(
        layer=layer,
        relative=float((a - b).norm() / a.norm()),
        spectra=float((values_a - values_b).norm() / values_a.norm()),
        outside=(kept_a.shape[1], kept_b.shape[1]),
        overlap=shared,
    )


def faults(moments: SecondMoments, digests: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the contents of a file: digests, finiteness, symmetry, eigenvalues below zero.

    `digests` are those the file says of its own arrays. Positive semidefiniteness is tried by a Cholesky factor of C0
    shifted by the rounding of its sums.
    """
    found = []
    for name, tensor in moments.tensors().items():
        if name not in digests:
            found.append(f"{name}: the file says no digest")
        elif tensors_digest({name: tensor}) != digests[name]:
            found.append(f"{name}: the digest is not the one the file says: the numbers have changed")
    for layer, moment in moments.by_layer.items():
        try:
            require_second_moment(moment, what=f"layer {layer}", where="")
        except InputError as error:
            found.append(error.what)
            continue
        shifted = (moment + moment.T) / 2
        shifted.diagonal().add_(_ROUNDING * float(moment.diagonal().mean()))
        if int(torch.linalg.cholesky_ex(shifted).info):
            found.append(f"layer {layer} is not positive semidefinite")
    for layer, space in moments.null_spaces.items():
        gram = space.basis.T @ space.basis
        if not torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype), atol=1e-6):
            found.append(f"the null space of layer {layer} is not orthonormal")
    return found
