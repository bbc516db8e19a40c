"""PRUNE at a read-out: decomposed only where something exceeds the unedited weight, against two SVDs."""

import torch

from benchmarks.rows import Row, comparison
from benchmarks.timing import interleaved, relative_difference
from sphere_core.regularizers import Prune

__all__ = ["measure", "read_out_rows", "two_svds"]

TOLERANCE = 1e-5
DIRECTIONS = 100


def two_svds(change: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Return the damped change as published: the singular values of W_0 and the SVD of the change, every time."""
    largest = torch.linalg.svd(base, full_matrices=False).S.max()
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    damped = torch.where(values > largest, values.log() - largest.log() + largest, values)
    return (left * damped) @ right


def read_out_rows(rows: int, width: int, *, repeats: int) -> list[Row]:
    """Return the rows of one layer `[rows, width]`, a read-out, by what the change is in units of |W_0|_2."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(rows, width, generator=generator)
    largest = torch.linalg.matrix_norm(base.double(), 2)
    small = torch.randn(rows, width, generator=generator)
    small *= 0.5 * largest / torch.linalg.matrix_norm(small)
    wide = torch.randn(rows, width, generator=generator)
    wide *= 0.9 * largest / torch.linalg.matrix_norm(wide, 2)
    batch = torch.randn(rows, DIRECTIONS, generator=generator) @ torch.randn(DIRECTIONS, width, generator=generator)
    # The least of its singular values exceeds |W_0|: as many as a batch has edits.
    batch *= 1.2 * largest / torch.linalg.svdvals(batch)[DIRECTIONS - 1]
    return [
        _row("PRUNE, small change", "Frobenius norm 0.5 |W_0|", small, base, repeats),
        _row("PRUNE, change just below", "largest singular value 0.9 |W_0|", wide, base, repeats),
        _row("PRUNE, large change", f"{DIRECTIONS} singular values above |W_0|", batch + small, base, repeats),
        _row("PRUNE, everything large", "largest singular value 2.7 |W_0|, most above it", 3 * wide, base, repeats),
    ]


def _row(what: str, change_size: str, change: torch.Tensor, base: torch.Tensor, repeats: int) -> Row:
    prune = Prune()
    prune.view(change, base, "layer")  # |W_0| is computed once
    found = interleaved(lambda: two_svds(change, base), lambda: prune.view(change, base, "layer"), repeats=repeats)
    expected = two_svds(change.double(), base.double())
    return comparison(
        what,
        f"{' x '.join(str(size) for size in base.shape)}, {change_size}; published: fp32, ours: fp64",
        found.seconds,
        wall=found.wall,
        required=5,
        difference=relative_difference(found.ours, expected),
        tolerance=TOLERANCE,
    )


def measure(threads: int) -> list[Row]:
    """Return the rows of this benchmark."""
    return read_out_rows(768, 3072, repeats=5)
