"""`python -m benchmarks.long_histories`: what a step costs after many edits, and what they weigh in memory and on disk.

One site of Llama-3-8B's width with 512 rows, AlphaEdit with 40 directions left out, a batch of 100. The history is
extended as a trajectory does, by more keys at a time. All seconds are of the processor; the checkpoint is really
written, with the site's weight, by the code that replicas use. Prints Markdown.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.steps import BATCH, EXCLUDED, RIDGE
from sphere_core.checkpoints import Checkpoint, EditorState, write_checkpoint
from sphere_core.foundation.storage import Storage
from sphere_core.numerics.linalg import Subspace
from sphere_core.solver import KeyHistory, NullSpacePrior, Prior, least_squares_update

__all__ = ["HISTORIES", "LongStep", "long_steps", "main", "markdown"]

HISTORIES = (100, 1000, 3000, 10_000, 20_000)
_ADDED = 1000
_MB = 1e6


@dataclass(frozen=True)
class LongStep:
    """A batch of one site after `edits`: processor seconds of its solve and of adding its keys to the history, bytes of
    the history in memory, and of a checkpoint with that history and the site's weight."""

    edits: int
    solve: float
    append: float
    state: int
    checkpoint: int


def long_steps(
    rows: int, width: int, histories: Sequence[int], folder: Path, *, repeats: int = 3
) -> Iterator[LongStep]:
    """Measure a site `[rows, width]` after each number of edits in turn, medians of `repeats`.

    Checkpoints are written below `folder` and removed.
    """
    generator = torch.Generator().manual_seed(0)
    left_out = min(EXCLUDED, width // 2)
    basis, _ = torch.linalg.qr(torch.randn(width, left_out, generator=generator, dtype=torch.float64))
    prior = NullSpacePrior(Subspace(basis, complement=True), RIDGE)
    weight = torch.randn(rows, width, generator=generator)
    keys, residuals = (torch.randn(size, BATCH, generator=generator) for size in (width, rows))
    history, done = KeyHistory(), 0
    for edits in histories:
        while done < edits:
            count = min(_ADDED, edits - done)
            history = history.append(torch.randn(width, count, generator=generator), prior=prior)
            done += count
        solve = _seconds(partial(_solved, prior, history, keys, residuals), repeats)
        append = _seconds(partial(history.append, keys, prior=prior), repeats)
        state = sum(tensor.numel() * tensor.element_size() for tensor in history.state().values())
        yield LongStep(edits, solve, append, state, _written(history, weight, edits, folder))


def _solved(prior: Prior, history: KeyHistory, keys: torch.Tensor, residuals: torch.Tensor) -> torch.Tensor:
    return least_squares_update(prior, history, keys, residuals).dense()


def _seconds(call: Callable[[], object], repeats: int) -> float:
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return statistics.median(found)


def _written(history: KeyHistory, weight: torch.Tensor, edits: int, folder: Path) -> int:
    """Return the bytes of a checkpoint's files."""
    storage = Storage(folder, patience=())
    state = EditorState().with_part("0/history", EditorState(history.state()))
    weights = {"layers.0.down_proj.weight": weight}
    write_checkpoint(Checkpoint("t", edits, weights, state, (("{}",),), collapsed=False), storage)
    name = f"{edits:06d}"
    size = sum(storage.size(path) for path in storage.list(name))
    storage.delete(name)
    return size


def markdown(steps: Sequence[LongStep]) -> str:
    """Return the table, a line per number of edits."""
    lines = [
        "| earlier edits | solve, s | append, s | both, s | state in memory, MB | checkpoint, MB |",
        "|---|---|---|---|---|---|",
    ]
    for step in steps:
        seconds = (f"{value:.2f}" for value in (step.solve, step.append, step.solve + step.append))
        sizes = (f"{size / _MB:,.0f}" for size in (step.state, step.checkpoint))
        lines.append(f"| {step.edits:,} | {' | '.join((*seconds, *sizes))} |")
    return "\n".join(lines)


def main(
    rows: Annotated[int, typer.Option(min=1, help="Rows of the site")] = 512,
    width: Annotated[int, typer.Option(min=2, help="Columns of the site")] = 14336,
    threads: Annotated[int, typer.Option(min=1, help="Threads")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where to write; 2 GB must be free")] = None,
) -> None:
    """Measure a step after 100 to 20,000 edits; about ten minutes, and everything written is removed."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        typer.echo(markdown(list(long_steps(rows, width, HISTORIES, Path(place)))))


if __name__ == "__main__":
    typer.run(main)
