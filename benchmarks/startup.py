"""What commands cost before they do their work: processor seconds and peak memory of each, in a process of its own.

python -m benchmarks.startup                       help of every command
python -m benchmarks.startup --root runs/quickstart --sweep examples/quickstart.yaml    also those that read a root
python -m benchmarks.startup --tree ../earlier     the same of another checkout, for a table of before and after
"""

import os
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from workflows.cli import COMMANDS

__all__ = ["Cost", "cost_of", "main"]

# Processor seconds at most: help and commands that only read files, and a plan.
LIMIT_SECONDS, PLAN_SECONDS = 0.8, 2.5


@dataclass(frozen=True)
class Cost:
    """Median processor seconds of a command over its runs, its peak memory in MB, and its exit code."""

    seconds: float
    megabytes: float
    exit_code: int


def cost_of(arguments: list[str], *, tree: Path, runs: int) -> Cost:
    """Run `sphere ARGUMENTS` of a checkout `runs` times and return what it costs, children included."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    seconds, megabytes, code = [], 0.0, 0
    for _ in range(runs):
        child = subprocess.Popen(
            [sys.executable, "-m", "workflows.cli", *arguments],
            cwd=tree,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = code = os.waitstatus_to_exitcode(status)
        seconds.append(usage.ru_utime + usage.ru_stime)
        megabytes = max(megabytes, _megabytes(usage))
    return Cost(statistics.median(seconds), megabytes, code)


def main(
    root: Annotated[Path | None, typer.Option(help="Root of a finished sweep: measures what reads it")] = None,
    sweep: Annotated[Path | None, typer.Option(help="Sweep file to plan")] = None,
    tree: Annotated[Path, typer.Option(help="Checkout whose commands are measured")] = Path(__file__).parents[1],
    runs: Annotated[int, typer.Option(min=1, help="Runs of each command")] = 3,
) -> None:
    """Measure the start-up of every command; exits 1 where one takes more than it may."""
    asked = [([name, "--help"], LIMIT_SECONDS) for name in COMMANDS]
    if root is not None:
        place = str(root.resolve())
        asked += [([name, place], LIMIT_SECONDS) for name in ("status", "table", "ability", "retention", "correlate")]
        asked += [(["gc", place, "--dry-run"], LIMIT_SECONDS), (["retry", place], LIMIT_SECONDS)]
        asked += [(["methods"], LIMIT_SECONDS), (["tasks"], LIMIT_SECONDS), (["moments", "list"], LIMIT_SECONDS)]
    if sweep is not None:
        asked.append((["plan", str(sweep.resolve())], PLAN_SECONDS))
    table = Table("command", "seconds", "at most", "MB", "exit", title=f"start-up, processor time, median of {runs}")
    missed = False
    for arguments, limit in asked:
        found = cost_of(arguments, tree=tree.resolve(), runs=runs)
        missed = missed or found.seconds > limit
        shown = " ".join(Path(part).name if "/" in part else part for part in arguments)
        table.add_row(shown, f"{found.seconds:.2f}", f"{limit:.1f}", f"{found.megabytes:.0f}", str(found.exit_code))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    raise typer.Exit(1 if missed else 0)


def _megabytes(usage: resource.struct_rusage) -> float:
    """Peak memory; Linux counts in KiB, macOS in bytes."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    typer.run(main)
