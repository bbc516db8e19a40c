"""Norm-anchor scaling (NAS, arXiv 2602.02543): every target value gets the norm that values have on the unedited model.

Acts on targets, before keys and residuals: it cannot be written as a function of the update.
"""

from dataclasses import dataclass

import torch

__all__ = ["AnchorSettings", "NormAnchor", "anchor_of"]

# The release drops the largest twentieth of the norms before it averages them.
_KEPT_SHARE = 0.95


@dataclass(frozen=True)
class AnchorSettings:
    """The anchor norm (None: taken from the first batch) and the factor beyond which an edit is skipped."""

    norm: float | None
    factor: float


@dataclass(frozen=True)
class NormAnchor:
    """v = v_0 + delta with v_0 the MLP's output at the subject; if |v| > factor c, the edit is skipped (v = v_0), else
    v <- c v / |v|. The target follows: Z = (h_0 - v_0) + v."""

    anchor: float
    factor: float

    def apply(self, starts: torch.Tensor, deltas: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return targets Z `[h, n]` from h_0, delta and v_0, all `[h, n]`."""
        moved = values + deltas
        norms = torch.linalg.vector_norm(moved, dim=0, keepdim=True)
        scaled = torch.where(norms > self.factor * self.anchor, values, self.anchor * moved / norms)
        return starts - values + scaled


def anchor_of(values: torch.Tensor, deltas: torch.Tensor) -> float:
    """Return the anchor c: the mean of |v_0 + delta| over the columns, without the largest twentieth.

    The release averages over 1000 random requests of the unedited model. Here it is the first batch, whose targets
    are found on the unedited model anyway; a given `anchor_norm` takes its place.
    """
    norms = torch.linalg.vector_norm(values + deltas, dim=0).double().sort().values
    kept = norms[: max(1, int(_KEPT_SHARE * len(norms)))]
    return float(kept.mean())
