"""REVIVE (arXiv 2601.11042): remove from an update all that touches the dominant singular subspace.

Known at second hand only: no code is published with the paper. docs/methods.md says what is known of each option.
"""

from collections.abc import Mapping
from typing import Literal

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import DenseUpdate, LowRankUpdate, Update
from sphere_core.numerics.placement import all_finite
from sphere_core.numerics.spectrum import SingularSubspaces, dominant_rank, singular_subspaces
from sphere_core.regularizers.base import Stateless
from sphere_core.regularizers.read_ahead import ReadAhead

__all__ = ["Revive"]


class Revive(Stateless):
    """dW' = (I - U_k U_k^T) dW (I - V_k V_k^T), W = sum s_i u_i v_i^T.

    k is the smallest number of leading singular values whose `energy` (their sum, or the sum of their squares)
    reaches the `threshold` share. `weight` says whose: the unedited weight's (once), or the current one's (every
    batch). With the `compact` basis the part of dW outside the row space of W is dropped too, as it is when dW is
    expanded in the compact SVD; `complement` keeps it.
    """

    def __init__(
        self,
        *,
        threshold: float,
        energy: Literal["sum", "squares"],
        weight: Literal["base", "current"],
        basis: Literal["complement", "compact"],
    ) -> None:
        self._threshold = threshold
        self._energy = energy
        self._weight = weight
        self._compact = basis == "compact"
        self._base: dict[str, tuple[SingularSubspaces, int]] = {}
        self._current = ReadAhead(self._if_finite)

    def read_ahead(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin to decompose the current weights; does nothing where the subspaces are those of the unedited ones."""
        if self._weight == "current":
            self._current.begin(weights)

    def apply(self, update: Update, write: SiteWrite, state: EditorState) -> Update:
        """Return the filtered update; low-rank stays low-rank. A weight that is not finite protects nothing."""
        if self._weight == "current":
            protected = self._current.of(write.site.name, write.weight)
            if protected is None:
                return update
            spaces, rank = protected
        else:
            if write.site.name not in self._base:
                self._base[write.site.name] = self._protected(write.base)
            spaces, rank = self._base[write.site.name]
        if isinstance(update, LowRankUpdate):
            return LowRankUpdate(
                _without(update.left, spaces.left[:, :rank]), self._right(update.right, spaces.right, rank)
            )
        rows = _without(update.matrix, spaces.left[:, :rank])
        return DenseUpdate(self._right(rows.T, spaces.right, rank).T)

    def _if_finite(self, weight: torch.Tensor) -> tuple[SingularSubspaces, int] | None:
        return self._protected(weight) if all_finite(weight) else None

    def _protected(self, weight: torch.Tensor) -> tuple[SingularSubspaces, int]:
        # The compact basis needs every right singular vector, the complement only the protected ones.
        spaces = singular_subspaces(weight, rank_of=None if self._compact else self._rank)
        return spaces, self._rank(spaces.values)

    def _rank(self, values: torch.Tensor) -> int:
        return dominant_rank(values, self._threshold, self._energy)

    def _right(self, columns: torch.Tensor, vectors: torch.Tensor, rank: int) -> torch.Tensor:
        if self._compact:
            rest = vectors[:, rank:].to(columns)
            return rest @ (rest.T @ columns)
        return _without(columns, vectors[:, :rank])


def _without(columns: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Return (I - Q Q^T) X."""
    basis = directions.to(columns)
    return columns - basis @ (basis.T @ columns)
