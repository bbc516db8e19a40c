"""SPHERE and REVIVE on one layer: the small Gram matrix and low-rank factors, against dense decompositions."""

from collections.abc import Callable

import torch

from benchmarks.rows import Row, comparison
from benchmarks.timing import interleaved, measured_apart, relative_difference
from sphere_core.checkpoints import EditorState
from sphere_core.models import Site
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import LowRankUpdate, Update
from sphere_core.regularizers import Regularizer, Revive, Sphere

__all__ = ["dense_revive", "dense_sphere", "layer_rows", "measure"]

ENERGY_RATIO, STRENGTH, THRESHOLD, RANK = 0.5, 0.5, 0.1, 100
TOLERANCE = 1e-5


def dense_sphere(weight: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Return dW (I - a U U^T) as published, in the dtype of W: eigenvectors of the `[d, d]` matrix (1/o) W^^T W^ and a
    dense projector."""
    directions = weight / (torch.linalg.vector_norm(weight, dim=1, keepdim=True) + 1e-8)
    values, vectors = torch.linalg.eigh(directions.T @ directions / len(weight))
    values, vectors = values.flip(0), vectors.flip(1)
    rank = int((values.cumsum(0) / values.sum() <= ENERGY_RATIO).sum()) + 1
    leading = vectors[:, :rank]
    projector = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device) - STRENGTH * leading @ leading.T
    return change @ projector


def dense_revive(weight: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Return (I - U_k U_k^T) dW (I - V_k V_k^T) from a full SVD and two dense projectors, in the dtype of W."""
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    rank = int((values.cumsum(0) / values.sum() < THRESHOLD).sum()) + 1
    outputs = torch.eye(len(weight), dtype=weight.dtype) - left[:, :rank] @ left[:, :rank].T
    inputs = torch.eye(weight.shape[1], dtype=weight.dtype) - right[:rank].T @ right[:rank]
    return outputs @ change @ inputs


def layer_rows(rows: int, width: int, *, repeats: int) -> list[Row]:
    """Return the rows of one layer `[rows, width]`, a batch: from an update of rank 100 to the dense one to write."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, width, generator=generator)
    update = LowRankUpdate(
        torch.randn(rows, RANK, generator=generator, dtype=torch.float64),
        torch.randn(width, RANK, generator=generator, dtype=torch.float64),
    )
    write = SiteWrite(Site(0, "layer", rows, width, False), torch.empty(width, 0), torch.empty(rows, 0), weight, weight)
    revive = {"threshold": THRESHOLD, "energy": "sum", "basis": "complement"}
    forms: list[tuple[str, Regularizer, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = [
        ("SPHERE, current weight", _sphere("current"), dense_sphere),
        ("SPHERE, unedited weight", _sphere("pretrained"), dense_sphere),
        ("REVIVE, unedited weight", Revive(**revive, weight="base"), dense_revive),  # type: ignore[arg-type]
        ("REVIVE, current weight", Revive(**revive, weight="current"), dense_revive),  # type: ignore[arg-type]
    ]
    return [
        _row(name, regularizer, dense, update, write, 25 if name in REQUIRED else None, repeats)
        for name, regularizer, dense in forms
    ]


REQUIRED = ("SPHERE, current weight", "REVIVE, unedited weight")


def _sphere(basis: str) -> Sphere:
    return Sphere(energy_ratio=ENERGY_RATIO, strength=STRENGTH, basis=basis)  # type: ignore[arg-type]


def _row(
    name: str,
    regularizer: Regularizer,
    dense: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    update: Update,
    write: SiteWrite,
    required: float | None,
    repeats: int,
) -> Row:
    weight, change = write.weight, update.dense().float()
    # What is made once per trajectory is made before the clock starts.
    regularizer.apply(update, write, EditorState())
    found = interleaved(
        lambda: dense(weight, change),
        lambda: regularizer.apply(update, write, EditorState()).dense(),
        repeats=repeats,
    )
    expected = dense(weight.double(), update.dense())
    return comparison(
        name,
        f"{' x '.join(str(size) for size in weight.shape)}, rank {RANK}; published: fp32, decomposed every batch; "
        "ours: fp64",
        found.seconds,
        wall=found.wall,
        required=required,
        difference=relative_difference(found.ours, expected),
        tolerance=TOLERANCE,
    )


def measure(threads: int) -> list[Row]:
    """Return the rows of this benchmark."""
    alone = measured_apart("sphere", 4096, 14336, threads=threads)
    setting = f"4096 x 14336, rank {RANK}, current weight; fp64; a process of its own"
    return [
        *layer_rows(768, 3072, repeats=3),
        Row("SPHERE, one large layer: time", setting, alone["seconds"], "s", 180),
        Row("SPHERE, one large layer: peak memory", setting, alone["peak"], "GB", 6),
    ]
