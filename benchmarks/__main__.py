"""`python -m benchmarks`: measure, print one table, and write it as JSON where asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks import ability, energy, geometry, keys, moments, projections, pruning, scoring, steps, targets
from benchmarks.rows import Row, as_records, table

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: dict[str, Callable[[int], list[Row]]] = {
    "targets": targets.measure,
    "projections": projections.measure,
    "steps": steps.measure,
    "pruning": pruning.measure,
    "energy": energy.measure,
    "geometry": geometry.measure,
    "keys": keys.measure,
    "moments": moments.measure,
    "ability": ability.measure,
    "scoring": scoring.measure,
}
WIDTH = 220


def main(
    only: Annotated[list[str] | None, typer.Option(help="Only this benchmark; may be given more than once")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every form measured")] = 2,
    write: Annotated[str | None, typer.Option(help="Also write benchmarks/results/NAME.json")] = None,
) -> None:
    """Measure every ratio against a plain implementation of the published way, on CPU; exits 1 where one is missed."""
    unknown = sorted(set(only or []) - set(BENCHMARKS))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; known: {', '.join(BENCHMARKS)}")
    torch.set_num_threads(threads)
    rows: list[Row] = []
    with Console(stderr=True).status("") as status:
        for name in only or BENCHMARKS:
            status.update(name)
            rows += BENCHMARKS[name](threads)
    title = f"ours against the published way, CPU, threads: {threads}, torch {torch.__version__}"
    # A pipe has no width of its own: rows would be cut to 80 columns.
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table(rows, title=title))
    if write is not None:
        path = Path(__file__).parent / "results" / f"{write}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"title": title, "rows": as_records(rows)}, indent=2) + "\n", encoding="utf-8")
    if any(row.met is False for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
