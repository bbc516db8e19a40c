"""A running mean and deviation of rows that arrive in mini-batches."""

from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState

__all__ = ["RunningMoments"]


@dataclass(frozen=True)
class RunningMoments:
    """Count n, mean `[w]` and sum of squares S `[w]` of the rows seen so far, float64.

    Merging a mini-batch with mean b and sum of squared deviations SS over m rows (Chan's form):
    S <- S + SS + (b - mean)^2 n m / (n + m). With `unbiased`, SS m / (m - 1) replaces SS, as UltraEdit's
    release computes it; a mini-batch of one row then adds nothing of its own, where the release's is not a number.
    """

    count: int = 0
    mean: torch.Tensor | None = None
    squares: torch.Tensor | None = None

    @classmethod
    def of(cls, state: EditorState) -> "RunningMoments":
        """Read what an editor's state keeps."""
        return cls(int(state.scalars.get("count", 0)), state.tensors.get("mean"), state.tensors.get("squares"))

    def state(self) -> EditorState:
        """Return what an editor's state keeps."""
        named = {"mean": self.mean, "squares": self.squares}
        return EditorState({name: value for name, value in named.items() if value is not None}, {"count": self.count})

    def with_rows(self, rows: torch.Tensor, *, unbiased: bool) -> "RunningMoments":
        """Return the moments with a mini-batch of rows `[m, w]` added."""
        added, mean = rows.shape[0], rows.mean(dim=0)
        squares = (rows - mean).square().sum(dim=0)
        if unbiased and added > 1:
            squares = squares * (added / (added - 1))
        if self.mean is None or self.squares is None:
            return RunningMoments(added, mean, squares)
        total = self.count + added
        shift = mean - self.mean.to(mean)
        spread = self.squares.to(mean) + squares + shift.square() * (self.count * added / total)
        return RunningMoments(total, self.mean.to(mean) + shift * (added / total), spread)

    def normalised(self, rows: torch.Tensor, *, epsilon: float) -> torch.Tensor:
        """Return (rows - mean) / (deviation + epsilon), the deviation with n - 1."""
        if self.mean is None or self.squares is None:
            raise ValueError("no rows have been seen")
        deviation = (self.squares.to(rows) / max(self.count - 1, 1)).sqrt() + epsilon
        return (rows - self.mean.to(rows)) / deviation
