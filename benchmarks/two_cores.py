"""`python -m benchmarks.two_cores`: a sweep on one replica and on two: processor seconds over wall, and the scaling.

Each run is `sphere run` in a process of its own with a Ray of its own; what it and everything below it take from the
processors is read from the process table while it runs. Wall time means something on a machine with nothing else to
do: the load that other processes were is printed beside it. Processor seconds of two replicas over those of one say
what the second costs, on a busy machine too.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console

from benchmarks.rows import Row, table

__all__ = ["Run", "main", "run_command", "scaling_rows"]

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Run:
    """Seconds that passed, processor seconds of a command and all below it, and the machine's mean load meanwhile."""

    wall: float
    processor: float
    load: float
    exit_code: int

    @property
    def utilisation(self) -> float:
        """Processors in use on average."""
        return self.processor / self.wall


def run_command(command: list[str]) -> Run:
    """Run a command to its end. A process that lives shorter than a fifth of a second may be missed, unless its parent
    below the command waited for it."""
    begun = time.perf_counter()
    child = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    spent: dict[tuple[int, float], float] = {}
    loads = [os.getloadavg()[0]]
    root = psutil.Process(child.pid)
    while child.poll() is None:
        for process in _alive(root):
            try:
                times = process.cpu_times()
                spent[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        loads.append(os.getloadavg()[0])
        time.sleep(SAMPLE_SECONDS)
    return Run(time.perf_counter() - begun, sum(spent.values()), statistics.mean(loads), child.returncode)


def _alive(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def scaling_rows(runs: dict[int, Run]) -> list[Row]:
    """Return the rows of runs by their number of processors; the first is what the others are compared with."""
    rows = []
    first = next(iter(runs.values()))
    for count, run in runs.items():
        setting = f"wall {run.wall:.0f} s, mean load {run.load:.1f}"
        rows.append(Row(f"processor seconds, {count} CPUs", setting, run.processor, "s"))
        rows.append(Row(f"utilisation, {count} CPUs", "processor seconds over wall", run.utilisation / count, ""))
        if run is not first:
            rows.append(Row("faster", f"wall, {count} CPUs; ideal {count} x", first.wall / run.wall, "x"))
            rows.append(Row("processor seconds over one's", f"{count} CPUs", run.processor / first.processor, ""))
    return rows


def main(
    sweep: Annotated[Path, typer.Argument(help="Sweep file")] = REPOSITORY / "examples" / "quickstart.yaml",
    cpus: Annotated[str, typer.Option(help="Numbers of processors, separated by commas")] = "1,2",
    set_: Annotated[list[str] | None, typer.Option("--set", help="As of `sphere run`")] = None,
) -> None:
    """Run a sweep once for each number of processors and print what it took."""
    runs: dict[int, Run] = {}
    changes = [part for change in set_ or () for part in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, cpus.split(",")):
            place = ["--root", f"{folder}/{count}", "--num-cpus", str(count), "--quiet"]
            command = [sys.executable, "-m", "workflows.cli", "run", str(sweep.resolve()), *place, *changes]
            runs[count] = run_command(command)
            if runs[count].exit_code:
                raise typer.BadParameter(f"exit code {runs[count].exit_code}: {' '.join(command)}")
    Console(width=120).print(table(scaling_rows(runs), title=f"{sweep.name}, CPU"))


if __name__ == "__main__":
    typer.run(main)
