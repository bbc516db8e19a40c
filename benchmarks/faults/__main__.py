"""`python -m benchmarks.faults`: faults in a small sweep, each against the same sweep left alone; prints one table.

Full disks at moments, null space, checkpoint and rows; driver, replica, evaluator, raylet and head killed at random
times; a replica that is stopped while its lease is taken; damaged files under `verify`, `table` and `run`. Times, files
and bits are drawn from a seed. Right means: the documented exit code, nothing marked as failed, no traceback, no number
changed without a word, and after one more run the bytes of the sweep that was left alone.
"""

import os
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.faults.damage import damaged_files
from benchmarks.faults.disk import full_disks
from benchmarks.faults.kills import VICTIMS, killed_processes, stopped_replica
from benchmarks.faults.trial import Trial, run_here, write_settings

__all__ = ["main"]

_LONG = 100
PARTS = ("disk", "damage", "stopped", "killed")


def _trials(part: str, sweep: Path, alone: Path, folder: Path, seed: int, files: int, kills: int) -> Iterator[Trial]:
    choice = random.Random(seed)
    if part == "disk":
        yield from full_disks(sweep, alone, folder)
    elif part == "damage":
        yield from damaged_files(sweep, alone, folder, count=files, choice=choice)
    elif part == "stopped":
        for _ in range(kills):
            yield from stopped_replica(sweep, alone, folder, choice=choice)
    else:
        # Long enough for the death of a node to be noticed while there is work.
        sweep, alone = write_settings(folder, edits=_LONG), folder / "alone-long"
        run_here(sweep, alone)
        for number in range(kills):
            for victim in VICTIMS:
                place = folder / f"kills-{number}"
                place.mkdir(exist_ok=True)
                yield killed_processes(sweep, alone, place, victim=victim, choice=choice)


def _caught(part: str, trials: Iterable[Trial]) -> Iterator[Trial]:
    """Yield the trials; what no code of the product has handled is a trial that went wrong."""
    try:
        yield from trials
    except Exception as error:  # noqa: BLE001 - a traceback is a finding
        yield Trial(part, f"a traceback: {traceback.format_exc(limit=-3)}", f"{type(error).__name__}: {error}")


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Only this part: {', '.join(PARTS)}; repeatable")] = None,
    seed: Annotated[int, typer.Option(help="Seed of times, files and bits")] = 0,
    files: Annotated[int, typer.Option(min=1, help="Files that are damaged")] = 60,
    kills: Annotated[int, typer.Option(min=1, help="How often each process is killed or stopped")] = 1,
) -> None:
    """Try every fault and print fault, tried, right; exits 1 if anything was not right."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console = Console()
    found: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        sweep, alone = write_settings(folder), folder / "alone"
        if run_here(sweep, alone) != 0:
            raise typer.Exit(1)
        for part in only or PARTS:
            for trial in _caught(part, _trials(part, sweep, alone, folder, seed, files, kills)):
                found.append(trial)
                if trial.wrong:
                    console.print(f"{trial.fault}, {trial.what}: {trial.wrong}", highlight=False, soft_wrap=True)
    table = Table("fault", "tried", "right", title=f"faults, seed {seed}")
    tried, right = Counter(map(_kind, found)), Counter(_kind(one) for one in found if not one.wrong)
    for kind, count in tried.items():
        table.add_row(kind, str(count), str(right[kind]))
    console.print(table)
    raise typer.Exit(1 if any(trial.wrong for trial in found) else 0)


def _kind(trial: Trial) -> str:
    detail = trial.what.partition(" ")[0] if trial.fault == "damaged file" else trial.what
    return trial.fault if trial.fault == "stopped replica" else f"{trial.fault}: {detail}"


if __name__ == "__main__":
    typer.run(main)
