"""Further figures of one site, each computed only if the settings name it.

Symbols: W the edited and W_0 the unedited weight `[o, d]`, dW = W - W_0, s singular values in descending order.
"""

import torch

from sphere_core.numerics.energy import row_directions
from sphere_core.numerics.placement import all_finite
from sphere_core.numerics.spectrum import singular_values

__all__ = ["COSINE_BINS", "concentration", "cosine_shares", "singular_value_gain"]

# Rows whose cosines are computed at once.
_BLOCK = 512
# The histogram's bins, a tenth wide, as protocols name them; the last holds 1 itself.
COSINE_BINS = tuple(f"[{low / 10:g},{(low + 1) / 10:g}{']' if low == 9 else ')'}" for low in range(-10, 10))


def concentration(change: torch.Tensor) -> float:
    """Return s_1^2 / sum s^2 of dW, the inverse of its stable rank (EBLoRA, arXiv 2602.00722, speaks of imbalance).

    nan for a change that is zero or not finite.
    """
    if not all_finite(change):
        return float("nan")
    squares = singular_values(change).square()
    return float(squares[0] / squares.sum())


def singular_value_gain(weight: torch.Tensor, base_values: torch.Tensor, rank: int) -> tuple[float, float]:
    """Return the mean of s_i(W) / s_i(W_0) over i <= rank, and over the rest; nan over nothing.

    Weight Spectra (arXiv 2505.23099) says of fine-tuning that the top singular values are amplified and the rest stays;
    its k is not published. `base_values` are all singular values of W_0; those that are zero are left out.
    """
    if not all_finite(weight):
        return float("nan"), float("nan")
    known = base_values > 0
    ratios = singular_values(weight)[known] / base_values[known]
    return float(ratios[:rank].mean()), float(ratios[rank:].mean())


def cosine_shares(weight: torch.Tensor) -> tuple[list[float], float]:
    """Return which share of the pairs of rows has its cosine in each bin of `COSINE_BINS`, and the mean of |cos|.

    Each unordered pair counts once; a row of zeros has cosine 0 with every other. nan if W is not finite.
    """
    bins = len(COSINE_BINS)
    if not all_finite(weight):
        return [float("nan")] * bins, float("nan")
    directions = row_directions(weight)
    rows = len(directions)
    counts, total = torch.zeros(bins, dtype=torch.long), 0.0
    for start in range(0, rows, _BLOCK):
        block = directions[start : start + _BLOCK]
        cosines = block @ directions[start:].T
        above = torch.ones_like(cosines, dtype=torch.bool).triu(diagonal=1)
        chosen = cosines[above].clamp(-1, 1)
        places = ((chosen + 1) * (bins / 2)).floor().long().clamp_max(bins - 1)
        counts += torch.bincount(places, minlength=bins).cpu()
        total += float(chosen.abs().sum())
    pairs = max(rows * (rows - 1) // 2, 1)
    return (counts.double() / pairs).tolist(), total / pairs
