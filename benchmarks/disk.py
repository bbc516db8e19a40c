"""`python -m benchmarks.disk`: bytes on disk a checkpoint and a thousand edits, by really writing them.

Random weights in the shapes of Llama-3-8B's five edited sites, the key history of AlphaEdit after every batch of 100,
written with the code that replicas use, each checkpoint removed after it is measured. It is compared with what the
released loops would keep: the whole model and a `[d, d]` sum of key products for every site.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.rows import Row, table
from sphere_core.checkpoints import Checkpoint, EditorState, write_checkpoint
from sphere_core.foundation.storage import Storage
from sphere_core.numerics.linalg import Subspace
from sphere_core.solver import KeyHistory, NullSpacePrior

__all__ = ["main", "measure"]

LAYERS = (4, 5, 6, 7, 8)
MODEL_BYTES = 8_030_261_248 * 2  # parameters of Llama-3-8B, bfloat16
BATCH, RIDGE = 100, 10.0
_GB = 1e9


def measure(rows: int, width: int, edits: int, folder: Path, *, model_bytes: int = MODEL_BYTES) -> list[Row]:
    """Write the checkpoint after every batch of 100 up to `edits` below `folder` and return what that takes."""
    generator = torch.Generator().manual_seed(0)
    weights = {f"layers.{layer}.down_proj.weight": torch.randn(rows, width, generator=generator) for layer in LAYERS}
    # What the prior leaves out changes no size of the history.
    prior = NullSpacePrior(Subspace(torch.zeros(width, 0, dtype=torch.float64), complement=True), RIDGE)
    histories = [KeyHistory() for _ in LAYERS]
    storage = Storage(folder, patience=())
    sizes: dict[int, int] = {}
    seconds = 0.0
    for done in range(BATCH, edits + 1, BATCH):
        state = EditorState()
        for place, layer in enumerate(LAYERS):
            keys = torch.randn(width, BATCH, generator=generator) / width**0.5
            histories[place] = histories[place].append(keys, prior=prior)
            state = state.with_part(f"{layer}/history", EditorState(histories[place].state()))
        started = time.perf_counter()
        write_checkpoint(Checkpoint("t", done, weights, state, (("{}",),), collapsed=False), storage)
        seconds = time.perf_counter() - started
        sizes[done] = sum(storage.size(path) for path in storage.list(f"{done:06d}"))
        storage.delete(f"{done:06d}")
    naive = model_bytes + len(LAYERS) * width * width * 4
    shape = f"{len(LAYERS)} sites {rows} x {width}"
    return [
        *(Row("a checkpoint", f"{shape}, {at} edits", sizes[at] / _GB, "GB") for at in sorted({BATCH, edits})),
        Row("a checkpoint, naive", f"whole model in bfloat16, {width} x {width} sums", naive / _GB, "GB"),
        Row(f"{edits} edits, a checkpoint every {BATCH}", shape, sum(sizes.values()) / _GB, "GB"),
        Row(f"{edits} edits, naive", "the same cadence", len(sizes) * naive / _GB, "GB"),
        Row("naive over ours", f"{edits} edits", len(sizes) * naive / sum(sizes.values()), "x"),
        Row("seconds to write the last one", shape, seconds, "s"),
    ]


def main(
    rows: Annotated[int, typer.Option(help="Rows of a site")] = 4096,
    width: Annotated[int, typer.Option(help="Columns of a site")] = 14336,
    edits: Annotated[int, typer.Option(help="Edits")] = 1000,
    folder: Annotated[Path | None, typer.Option(help="Where to write; 3 GB must be free")] = None,
) -> None:
    """Measure bytes on disk; everything written is removed."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        found = measure(rows, width, edits, Path(place))
    Console(width=140).print(table(found, title="bytes on disk"))


if __name__ == "__main__":
    typer.run(main)
