"""One least-squares step of AlphaEdit and MEMIT on one layer, and what their history weighs in a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from benchmarks.rows import Row, comparison
from benchmarks.timing import interleaved, relative_difference
from sphere_core.numerics.linalg import Subspace
from sphere_core.solver import KeyHistory, MomentPrior, NullSpacePrior, Prior, least_squares_update

__all__ = ["alphaedit_dense", "measure", "memit_dense", "state_size", "step_rows"]

BATCH, RIDGE, MOMENT_WEIGHT = 100, 10.0, 15.0
TOLERANCE = 1e-5
# With the published threshold AlphaEdit's null space on Llama-3-8B leaves out 10 to 43 directions a layer.
EXCLUDED = 40
_GB = 1e9

Dense = Callable[[], tuple[torch.Tensor, torch.Tensor | None]]


def alphaedit_dense(
    projector: torch.Tensor, cache: torch.Tensor, keys: torch.Tensor, residuals: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return dW and the history's next `[d, d]` matrix as published, in the dtype of the inputs:
    dW^T = (P (K K^T + H H^T) + L2 I)^{-1} P K R^T, a non-symmetric system."""
    gram = keys @ keys.T
    system = projector @ (gram + cache) + RIDGE * torch.eye(len(keys), dtype=keys.dtype, device=keys.device)
    return torch.linalg.solve(system, projector @ keys @ residuals.T).T, cache + gram


def memit_dense(
    moment: torch.Tensor, cache: torch.Tensor | None, keys: torch.Tensor, residuals: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return dW and the history's next `[d, d]` matrix as published, in float64:
    dW = R ((lambda C0 + H H^T + K K^T)^{-1} K)^T by an LU of the `[d, d]` system, every batch."""
    keys, residuals = keys.double(), residuals.double()
    gram = keys @ keys.T
    system = MOMENT_WEIGHT * moment.double() + gram
    if cache is not None:
        system = system + cache.double()
    solved = torch.linalg.solve(system, keys)
    return residuals @ solved.T, None if cache is None else cache + gram.to(cache)


@dataclass(frozen=True)
class _Layer:
    """Random inputs of one layer: C0, AlphaEdit's projector and the priors made of them, keys and residuals."""

    moment: torch.Tensor
    projector: torch.Tensor
    memit: MomentPrior
    alphaedit: NullSpacePrior
    keys: torch.Tensor
    residuals: torch.Tensor

    def dense_alphaedit(self, cache: torch.Tensor, dtype: torch.dtype) -> Dense:
        """Return the published AlphaEdit step in this dtype."""
        inputs = [part.to(dtype) for part in (self.projector, cache, self.keys, self.residuals)]
        return lambda: alphaedit_dense(*inputs)

    def dense_memit(self, cache: torch.Tensor | None) -> Dense:
        """Return the published MEMIT step."""
        return lambda: memit_dense(self.moment, cache, self.keys, self.residuals)


def random_layer(width: int, rows: int, generator: torch.Generator, *, excluded: int) -> _Layer:
    """Return a layer `[rows, width]`; the null space is all but `excluded` directions."""
    basis, _ = torch.linalg.qr(torch.randn(width, excluded, generator=generator, dtype=torch.float64))
    texts = torch.randn(width, 2 * width, generator=generator)
    moment = texts @ texts.T / (2 * width)
    return _Layer(
        moment=moment,
        projector=torch.eye(width, dtype=torch.float64) - basis @ basis.T,
        memit=MomentPrior(moment, weight=MOMENT_WEIGHT, ridge=0.0, width=width),
        alphaedit=NullSpacePrior(Subspace(basis, complement=True), RIDGE),
        keys=torch.randn(width, BATCH, generator=generator),
        residuals=torch.randn(rows, BATCH, generator=generator),
    )


def step_rows(width: int, rows: int, histories: tuple[int, ...], *, repeats: int) -> list[Row]:
    """Return the rows of one layer `[rows, width]`: a batch of 100 after a number of earlier edits."""
    generator = torch.Generator().manual_seed(0)
    layer = random_layer(width, rows, generator, excluded=min(EXCLUDED, width // 2))
    without = layer.dense_memit(None)
    found = [_row("MEMIT", layer, layer.memit, None, (without, without), repeats)]
    for edits in histories:
        earlier = torch.randn(width, edits, generator=generator)
        cache, wide = earlier @ earlier.T, earlier.double() @ earlier.double().T
        alphaedit = (layer.dense_alphaedit(cache, torch.float32), layer.dense_alphaedit(wide, torch.float64))
        memit = (layer.dense_memit(cache), layer.dense_memit(wide))
        after = f"after {edits} edits"
        found.append(_row(f"AlphaEdit {after}", layer, layer.alphaedit, earlier, alphaedit, repeats))
        # By its count of operations MEMIT-seq cannot gain more than about 6 x at this width.
        found.append(replace(_row(f"MEMIT-seq {after}", layer, layer.memit, earlier, memit, repeats), required=None))
    return [*found, _worst_case(width, rows, histories[0], generator, repeats)]


def _worst_case(width: int, rows: int, edits: int, generator: torch.Generator, repeats: int) -> Row:
    """Return AlphaEdit's row where half of all directions are left out: no thinner side to keep the basis by."""
    layer = random_layer(width, rows, generator, excluded=width // 2)
    earlier = torch.randn(width, edits, generator=generator)
    cache, wide = earlier @ earlier.T, earlier.double() @ earlier.double().T
    dense = (layer.dense_alphaedit(cache, torch.float32), layer.dense_alphaedit(wide, torch.float64))
    what = f"AlphaEdit after {edits} edits, half of all directions left out"
    return replace(_row(what, layer, layer.alphaedit, earlier, dense, repeats), required=None)


def _row(
    what: str, layer: _Layer, prior: Prior, earlier: torch.Tensor | None, dense: tuple[Dense, Dense], repeats: int
) -> Row:
    """Time the published step (the first of `dense`) against ours; the second is what both should give."""
    published = "fp32" if prior is layer.alphaedit else "fp64"
    history = KeyHistory() if earlier is None else KeyHistory().append(earlier, prior=prior)

    def ours() -> torch.Tensor:
        update = least_squares_update(prior, history, layer.keys, layer.residuals)
        if earlier is not None:
            history.append(layer.keys, prior=prior)
        return update.dense()

    ours()  # factors that are made once per trajectory
    found = interleaved(dense[0], ours, repeats=repeats)
    return comparison(
        f"step of {what}",
        f"d = {len(layer.keys)}, o = {len(layer.residuals)}, batch {BATCH}; published: {published}, ours: fp64",
        found.seconds,
        wall=found.wall,
        required=10,
        difference=relative_difference(found.ours, dense[1]()[0]),
        tolerance=TOLERANCE,
    )


def state_size(width: int, edits: int, layers: int) -> Row:
    """Return the row of the bytes that a checkpoint keeps of the history, for real tensors of this size."""
    total = 0
    # AlphaEdit's prior with nothing to preserve: what the keys are, and what the prior is, changes no size.
    prior = NullSpacePrior(Subspace(torch.zeros(width, 0, dtype=torch.float64), complement=True), RIDGE)
    for _ in range(layers):
        history = KeyHistory()
        for _ in range(edits // BATCH):
            history = history.append(torch.zeros(width, BATCH), prior=prior)
        total += sum(tensor.numel() * tensor.element_size() for tensor in history.state().values())
    return Row("state of the key history", f"d = {width}, {edits} edits, {layers} layers", total / _GB, "GB", 1)


def measure(threads: int) -> list[Row]:
    """Return the rows of this benchmark."""
    return [*step_rows(3072, 768, (100, 1000, 2000), repeats=3), state_size(14336, 2000, 5)]
