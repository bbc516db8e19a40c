"""`python -m benchmarks.chaos`: a sweep on three nodes under random kills, against the same sweep left alone.

From a fixed seed, processes are ended with SIGKILL while the sweep runs: replicas, evaluators, one node with all on it,
and once the driver, which is then started again. At the end every file of rows and checkpoints must be byte-equal to
those of one replica that nothing happened to, and no kill may have cost more edits than lie between two checkpoints.
"""

import json
import os
import random
import secrets
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.disturbed import INTERVAL, DisturbedSweep, Kind, run_undisturbed, sweep_settings
from benchmarks.equal_bytes import differing

__all__ = ["Redone", "Report", "main", "redone_edits", "under_chaos"]

# Each once, in an order that the seed draws; then replicas and evaluators at random.
KINDS: tuple[Kind, ...] = ("replica", "replica", "evaluator", "replica", "node", "replica", "evaluator", "driver")
LATER: tuple[Kind, ...] = ("replica", "replica", "evaluator")


@dataclass(frozen=True)
class Redone:
    """How many attempts at trajectories there were, and the edits that they did again.

    `edits` in all and `most` at a time: what an attempt had said it had done beyond where the next one began.
    `passed_over` counts attempts that began before the newest valid checkpoint.
    """

    attempts: int
    edits: int
    most: int
    passed_over: int


@dataclass(frozen=True)
class Report:
    """What a run under kills came to."""

    seconds: float
    exit_code: int | None
    kills: Counter[Kind] = field(default_factory=Counter)
    different: tuple[str, ...] = ()
    redone: Redone = Redone(0, 0, 0, 0)

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, and no more was done again than a kill may cost."""
        return (
            self.exit_code == 0 and not self.different and self.redone.most <= INTERVAL and self.redone.passed_over == 0
        )


def redone_edits(root: Path) -> Redone:
    """Read from the attempts' records where each began, the newest checkpoint then, and the last progress."""
    records = [json.loads(path.read_bytes()) for path in root.glob("trajectories/*/attempts/*.json")]
    again = [record["before"] - record["from"] for record in records]
    passed_over = sum(record["from"] < record["standing"] for record in records)
    return Redone(len(again), sum(again), max(again, default=0), passed_over)


def under_chaos(folder: Path, *, trajectories: int, seed: int, period: float, limit_seconds: float = 1500.0) -> Report:
    """Run a sweep alone and under kills below `folder`, one kill every `period` seconds or so, and compare."""
    sweep = run_undisturbed(folder, sweep_settings("chaos", trajectories, edits=16), "--local")
    root, choice = folder / "root", random.Random(seed)
    todo = list(KINDS)
    choice.shuffle(todo)
    started = time.monotonic()
    with DisturbedSweep(sweep, root, choice) as disturbed:
        due = time.monotonic() + period
        while (code := disturbed.driver.poll()) is None and time.monotonic() - started < limit_seconds:
            time.sleep(0.05)
            if time.monotonic() >= due and disturbed.is_editing():
                if not disturbed.kill(todo.pop() if todo else choice.choice(LATER)):
                    disturbed.kill("replica")
                due = time.monotonic() + period * choice.uniform(0.5, 1.5)
    seconds = time.monotonic() - started
    return Report(seconds, code, disturbed.kills, differing(folder / "alone", root), redone_edits(root))


def main(
    seed: Annotated[list[int] | None, typer.Option(help="Seed of the kills; may be given more than once")] = None,
    trajectories: Annotated[int, typer.Option(min=3, help="How many trajectories")] = 24,
    period: Annotated[float, typer.Option(help="Seconds between two kills, on average")] = 4.0,
) -> None:
    """Run the sweep under kills, once per seed; exits 1 if anything was lost or differs."""
    # Workers of the cluster and the driver share it; Ray would write one into the home folder.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console = Console()
    good = True
    for one in seed or [0, 1, 2]:
        with tempfile.TemporaryDirectory() as folder:
            report = under_chaos(Path(folder), trajectories=trajectories, seed=one, period=period)
            if not report.is_good:
                console.out((Path(folder) / "driver.log").read_text(encoding="utf-8")[-4000:], highlight=False)
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kills.items()))
        console.print(
            f"seed {one}: exit code {report.exit_code} after {report.seconds:.0f} s; killed {kills}; "
            f"{report.redone.attempts} attempts, {report.redone.edits} edits again, "
            f"at most {report.redone.most} at a time (interval {INTERVAL}), "
            f"{report.redone.passed_over} began before the furthest checkpoint; "
            f"{len(report.different)} files differ {report.different[:4]}",
            highlight=False,
            soft_wrap=True,
        )
        good = good and report.is_good
    raise typer.Exit(0 if good else 1)


if __name__ == "__main__":
    typer.run(main)
